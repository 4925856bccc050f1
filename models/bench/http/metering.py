"""What metrics cost a small model's request: the product's app that counts, and one that does not.

The app that counts is there twice: what the second differs from the first by is what the measurement cannot tell.
Beside the rate, which is what the goal is about, stands the processor's time for a request. Where others use the
machine it says more; it has the time of one scrape in it, about 1 % of a round of two seconds, and the same for all.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from models.bench.harness import Ratio, compare_measured, ratios_of_medians
from models.bench.http import ladder, servers
from models.bench.http.cores import Cores
from models.bench.http.errors import BenchError
from models.bench.http.plan import Finding, Loads, OnRound, Plan
from models.bench.http.servers import Server
from models.bench.http.wrk import Load, Wrk
from models.bundle import ZOO

UNMETERED = "counts nothing"
METERED = "counts"
AGAIN = "counts, a second server"
# The share of a small model's throughput that metering may cost.
MOST = 0.02
_GOAL = 1 / (1 - MOST)
_APPS = "service.unmetered"
_PATH = f"/v1/models/{ladder.MODEL}/classify?timesteps=1"
_CPU = "process_cpu_seconds_total"
_COUNTED = f'lmht_requests_total{{code="200",model="{ladder.MODEL}"}}'


@dataclass(frozen=True)
class Metering:
    """What was found; the baseline is the app that counts nothing.

    ``cpu_s`` is the processor's time for a request, by server, one a round in their order.
    """

    loads: Loads
    cpu_s: Mapping[str, tuple[float, ...]]

    @property
    def finding(self) -> Finding:
        """How many times as long a request takes where it is counted, against the goal.

        It says nothing where two servers that do the same differ by as much as the goal.
        """
        ratio = self.loads.comparison[METERED].ratio
        text = f"time for a request ÷ that of an app that counts nothing, {self.loads.connections} connections"
        quiet = max(self.noise.high, 1 / self.noise.low) <= _GOAL
        return Finding(text, ratio, _GOAL, at_least=False, enough=self.loads.enough and quiet)

    @property
    def noise(self) -> Ratio:
        """The second server that counts against the first; what differs from 1 is not metering."""
        return _ratio({name: self.loads.comparison[name].durations_s for name in self.loads.loads}, METERED, AGAIN)

    @property
    def cpu(self) -> Ratio:
        """The processor's time for a request that is counted ÷ for one that is not."""
        return _ratio(self.cpu_s, UNMETERED, METERED)

    @property
    def cpu_noise(self) -> Ratio:
        """The same of the second server that counts against the first."""
        return _ratio(self.cpu_s, METERED, AGAIN)


def _ratio(durations: Mapping[str, tuple[float, ...]], baseline: str, other: str) -> Ratio:
    names = list(durations)
    return ratios_of_medians(list(durations.values()), names.index(baseline))[names.index(other)]


def measure(wrk: Wrk, cores: Cores, folder: Path, plan: Plan, on_round: OnRound) -> Metering:
    """Keep each server busy in turn. Raises BenchError, also where one does not count as its name says."""
    picture = folder / "seven.png"
    picture.write_bytes(ladder.drawn_seven())
    repository = folder / "repository"
    shutil.copytree(ZOO / ladder.MODEL / "1", repository / ladder.MODEL / "1")
    with ExitStack() as stack:
        urls: dict[str, str] = {}
        for name, app in ((UNMETERED, "unmetered"), (METERED, "metered"), (AGAIN, "metered")):
            server = product(name, app, repository)
            urls[name] = stack.enter_context(servers.running(server, cores.server, folder))
            servers.ask(server, urls[name], picture.read_bytes())
            counted = servers.counted(urls[name].removesuffix(_PATH), _COUNTED)
            if counted != (0 if name == UNMETERED else 1):
                raise BenchError(f"the server that {name} has counted {counted:g} requests of 1")
        return _compare(urls, wrk, picture, plan, on_round)


def product(name: str, app: str, repository: Path) -> Server:
    """An app of `service.unmetered` with one engine thread and no log of requests."""
    server = servers.uvicorn(name, f"{_APPS}:{app}", servers.own_variables(repository), lifespan=True)
    return replace(server, path=_PATH, ready="/readyz")


def _compare(urls: Mapping[str, str], wrk: Wrk, picture: Path, plan: Plan, on_round: OnRound) -> Metering:
    loads: dict[str, list[Load]] = {name: [] for name in urls}
    cpu_s: dict[str, list[float]] = {name: [] for name in urls}

    def seconds(name: str) -> float:
        address = urls[name].removesuffix(_PATH)
        before = servers.counted(address, _CPU)
        load = wrk.post(urls[name], picture, connections=plan.connections, seconds=plan.seconds)
        loads[name].append(load)
        cpu_s[name].append((servers.counted(address, _CPU) - before) / load.requests)
        return 1 / load.rate

    comparison = compare_measured(
        {name: partial(seconds, name) for name in urls},
        baseline=UNMETERED,
        title=f"{ladder.MODEL}, T = 1, {plan.connections} connections: time for a request",
        rounds=plan.rounds,
        warmup=plan.warmup,
        seed=plan.seed,
        on_round=on_round,
        machine=plan.machine,
    )
    found = Loads(comparison, {name: tuple(loads[name][plan.warmup :]) for name in urls}, plan.connections)
    return Metering(found, {name: tuple(cpu_s[name][plan.warmup :]) for name in urls})
