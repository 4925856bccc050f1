"""What metrics cost a small model's request: the product's app, which counts for some requests and not for the next.

A server that is kept busy takes as long for a request as the processor does, so the processor's time is what the goal,
a share of throughput, is about. Stretches of a tenth of a second are compared in fours, two that count between two
that do not, and each four has its own ratio: a processor that is faster now and slower then is so for all of a four.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import numpy as np
import numpy.typing as npt

from models.bench.harness import Ratio, ratios_of_medians
from models.bench.http import ladder, servers
from models.bench.http.cores import Cores
from models.bench.http.errors import BenchError
from models.bench.http.plan import Finding
from models.bench.http.servers import Server
from models.bench.http.wrk import Wrk
from models.bundle import ZOO

# The share of a small model's throughput that metering may cost.
MOST = 0.02
_GOAL = 1 / (1 - MOST)
_PATH = f"/v1/models/{ladder.MODEL}/classify?timesteps=1"
_COUNTED = f'lmht_requests_total{{code="200",model="{ladder.MODEL}"}}'
_FEWEST_FOURS = 5
# The first are the interpreter's and the scheduler's to learn from.
_WARMUP_FOURS = 2
# Of all requests half are counted, but for those under way at a turn.
_ABOUT_HALF = (0.45, 0.55)


@dataclass(frozen=True)
class Metering:
    """What was found. ``fours``: the processor's seconds for a request, of stretches in fours; the middle two count."""

    fours: Sequence[tuple[float, float, float, float]]
    rate: float
    seed: int = 0

    @property
    def finding(self) -> Finding:
        """How many times the time a request takes where it is counted, against the goal.

        It says nothing where stretches that do the same differ by as much as the goal.
        """
        columns = np.array(self.fours)
        ratio = self._median(columns[:, [1, 2]].mean(1) / columns[:, [0, 3]].mean(1))
        quiet = max(self.noise.high, 1 / self.noise.low) <= _GOAL
        text = "processor's time of a request that is counted ÷ of one that is not"
        return Finding(text, ratio, _GOAL, at_least=False, enough=quiet)

    @property
    def noise(self) -> Ratio:
        """The later half of each four against its first, which do the same: what differs from 1 is no metering."""
        columns = np.array(self.fours)
        return self._median(columns[:, [3, 2]].mean(1) / columns[:, [0, 1]].mean(1))

    @property
    def request_s(self) -> float:
        """The processor's median time of a request that is not counted."""
        return float(np.median(np.array(self.fours)[:, [0, 3]]))

    def _median(self, ratios: npt.NDArray[np.float64]) -> Ratio:
        """Of the fours' ratios, with its interval."""
        return ratios_of_medians([np.ones(len(ratios)).tolist(), ratios.tolist()], 0, seed=self.seed)[1]


def measure(wrk: Wrk, cores: Cores, folder: Path, *, connections: int, seconds: int, seed: int) -> Metering:
    """Keep the server busy. Raises BenchError, also where it does not count for half of the requests."""
    picture = folder / "seven.png"
    picture.write_bytes(ladder.drawn_seven())
    repository = folder / "repository"
    shutil.copytree(ZOO / ladder.MODEL / "1", repository / ladder.MODEL / "1")
    server = product(repository)
    with servers.running(server, cores.server, folder) as url:
        servers.ask(server, url, picture.read_bytes())
        load = wrk.post(url, picture, connections=connections, seconds=seconds)
        address = url.removesuffix(_PATH)
        counted = servers.counted(address, _COUNTED)
        stretches = httpx.get(f"{address}/stretches").raise_for_status().json()
    low, high = _ABOUT_HALF
    if not low <= counted / load.requests <= high:
        raise BenchError(f"the server has counted {counted:g} of {load.requests} requests, which is not about half")
    fours = in_fours(stretches["seconds"], stretches["requests"])
    if len(fours) < _FEWEST_FOURS:
        raise BenchError(f"{load.requests} requests are too few to tell: give it more --seconds")
    return Metering(fours, load.rate, seed)


def in_fours(stretches: Sequence[float], requests: int) -> list[tuple[float, float, float, float]]:
    """Seconds of stretches of so many requests, in fours and for one request, but for the first and what is no four."""
    each = [seconds / requests for seconds in stretches]
    fours = zip(each[::4], each[1::4], each[2::4], each[3::4], strict=False)
    return list(fours)[_WARMUP_FOURS:]


def product(repository: Path) -> Server:
    """The app of `service.unmetered` with one engine thread and no log of requests."""
    variables = servers.own_variables(repository)
    server = servers.uvicorn("by turns", "service.unmetered:alternating", variables, lifespan=True)
    return replace(server, path=_PATH, ready="/readyz")
