"""A network of ResNet-18's size: how much of its engine's own rate the server keeps, and what that costs.

The network is `models.bench.random_network`, with random weights. Two figures come of each round:

* The **rate** over HTTP, against the engine's own: images a second that it runs in batches of its largest bucket, with
  one thread on the server's core, in a process of its own while the server is idle. wrk counts only whole answers, so
  what is under way when it stops, at most one image for each connection, counts as not done; the server is therefore
  under load for three times as long as a small network's.
* The **99th percentile** of the latency, against the **service time**: the median time in which the same engine, right
  after wrk has stopped, runs a batch of n images, n the median of the `batch_size` that the answers named. Each answer
  counts once for that median, so n is the batch in which the median request travelled. The figure is the median over
  rounds of the 99th percentile ÷ the median over rounds of the service time; its interval resamples whole rounds.

With all connections waiting for the engine, a request waits for one batch and is part of the next: two service times.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from models.bench.harness import Ratio, compare_measured, ratios_of_medians
from models.bench.http import servers
from models.bench.http.cores import Cores
from models.bench.http.engine import PinnedEngine, pinned_engine, provider_of
from models.bench.http.errors import BenchError
from models.bench.http.plan import Loads, OnRound, Plan
from models.bench.http.wrk import Load, Wrk
from models.tools import OpenEngine

OFFLINE = "the engine alone"
SERVER = "lmht serve"
_LONGER = 3
_SERVICE_S = 0.5  # how long the service time is measured in a round


@dataclass(frozen=True)
class Served:
    """The comparison of times for an image, and for each round the median batch and the service time in seconds."""

    loads: Loads
    batches: tuple[int, ...]
    service_s: tuple[float, ...]
    engine: str
    largest_bucket: int

    @property
    def share(self) -> Ratio:
        """The server's rate as a share of the engine's own."""
        return self.loads.comparison[SERVER].ratio.inverse

    @property
    def p99_in_service_times(self) -> Ratio:
        """The 99th percentile of the latency ÷ the service time."""
        comparison = self.loads.comparison
        p99s = [load.p99_s for load in self.loads.loads[SERVER]]
        return ratios_of_medians(
            [self.service_s, p99s],
            baseline=0,
            seed=comparison.seed,
            confidence=comparison.confidence,
            resamples=comparison.resamples,
        )[1]


def noise(seed: int) -> bytes:
    """A PNG of 32×32 random colours."""
    png = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)).save(png, "PNG")
    return png.getvalue()


def served(
    bundle: Path,
    timesteps: int,
    wrk: Wrk,
    cores: Cores,
    open_engine: OpenEngine,
    folder: Path,
    plan: Plan,
    on_round: OnRound,
) -> Served:
    """Measure the server of a bundle that is alone in its repository folder; ``folder`` is for the files of the run.

    Raises BenchError, BundleError.
    """
    picture = folder / "noise.png"
    picture.write_bytes(noise(plan.seed))
    model = bundle.parent.name
    server = servers.product(SERVER, bundle.parent.parent, model, timesteps)
    with servers.running(server, cores.server, folder) as url:
        engine_name = servers.ask(server, url, picture.read_bytes())["engine"]
        provider = provider_of(engine_name)
        with pinned_engine(bundle, timesteps, open_engine, provider, cores.server) as engine:
            return _Rounds(f"{model}, T = {timesteps}", url, picture, wrk, engine, plan).compare(on_round)


class _Rounds:
    """Measures both, and keeps what else was found."""

    def __init__(self, what: str, url: str, picture: Path, wrk: Wrk, engine: PinnedEngine, plan: Plan) -> None:
        self._what, self._url, self._picture = what, url, picture
        self._wrk, self._engine, self._plan = wrk, engine, plan
        self._loads: list[Load] = []
        self._batches: list[int] = []
        self._service_s: list[float] = []

    def compare(self, on_round: OnRound) -> Served:
        plan = self._plan
        comparison = compare_measured(
            {OFFLINE: self._offline, SERVER: self._server},
            baseline=OFFLINE,
            title=f"{self._what}, {plan.connections} connections",
            rounds=plan.rounds,
            warmup=plan.warmup,
            seed=plan.seed,
            on_round=on_round,
            machine=plan.machine,
        )
        return Served(
            Loads(comparison, {SERVER: tuple(self._loads[plan.warmup :])}, plan.connections),
            tuple(self._batches[plan.warmup :]),
            tuple(self._service_s[plan.warmup :]),
            self._engine.name,
            self._engine.batch_sizes[-1],
        )

    def _offline(self) -> float:
        """Seconds for an image."""
        batch = self._engine.batch_sizes[-1]
        return float(np.mean(self._engine.durations(batch, self._plan.seconds))) / batch

    def _server(self) -> float:
        """Seconds for an image."""
        plan = self._plan
        load = self._wrk.post(
            self._url,
            self._picture,
            connections=plan.connections,
            seconds=_LONGER * plan.seconds,
            count_batch_sizes=True,
        )
        batch = median_batch(load.batch_sizes)
        self._loads.append(load)
        self._batches.append(batch)
        self._service_s.append(float(np.median(self._engine.durations(batch, _SERVICE_S))))
        return 1 / load.rate


def median_batch(sizes: Mapping[int, int]) -> int:
    """The batch size of the median answer, from numbers of answers by batch size. Raises BenchError without any."""
    half = sum(sizes.values()) / 2
    seen = 0
    for size in sorted(sizes):
        seen += sizes[size]
        if seen >= half:
            return size
    raise BenchError("no answer named its batch_size")
