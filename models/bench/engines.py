"""The engine that serves against what else could run the same network, all in one interleaved run.

For every T-GIM, budget and batch that is asked for:

* the engine: 8-bit weights, exact spikes, counts and all
* the same graph without the spike and synop counts
* the limit: the same architecture as an 8-bit ReLU network in the same provider, run once for each time-step (once in
  all against a factored T-GIM, which convolves once)
* ONNX Runtime's CPU provider in float32
* the PyTorch network, eager
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.bench import relu
from models.bench.harness import Alternative, Comparison, Ratio, ratios_of_medians
from models.bundle import FloatArray
from models.export.lowering import Precision, lower
from models.export.trace import trace
from models.tools import OpenGraph, Provider

if TYPE_CHECKING:
    from models.networks import Network

# Short runs are measured several at a time, of about this many seconds together: each alternative finds the caches as
# another one left them, and is to be measured as it runs under load.
_LONG_ENOUGH_S = 0.04

ENGINE, UNCOUNTED = "engine", "engine, nothing counted"
RELU, CPU_FLOAT32, EAGER = "8-bit ReLU network", "ONNX Runtime CPU, float32", "PyTorch, eager"
KINDS = (ENGINE, UNCOUNTED, RELU, CPU_FLOAT32, EAGER)


@dataclass(frozen=True)
class Case:
    """One way of using a network."""

    tgim: str
    timesteps: int
    batch: int

    def __str__(self) -> str:
        return f"{self.tgim} T-GIM, T = {self.timesteps}, batch {self.batch}"

    @property
    def convolutions(self) -> int:
        """How often a pass runs each convolution but the first."""
        return 1 if self.tgim == "factored" else self.timesteps


def name(kind: str, case: Case) -> str:
    """What an alternative of a case is called. A ReLU network has no T-GIM."""
    if kind == RELU:
        return f"{kind}: {case.convolutions} × batch {case.batch}"
    return f"{kind}: {case}"


def alternatives(
    networks: Mapping[str, Network],
    shape: tuple[int, int, int],
    cases: Sequence[Case],
    open_graph: OpenGraph,
    threads: int,
    precision: Precision = "int8",
    seed: int = 0,
) -> Iterator[Alternative]:
    """The alternatives of all cases, opened one by one: at most `KINDS` for a case.

    ``networks`` by their T-GIM, for images of ``shape`` (C, H, W); ``precision`` of what serves. The ReLU network is
    left out where the networks have no budget of T = 1 to make it from.
    """
    import torch

    torch.set_num_threads(threads)
    pixels = np.random.default_rng(seed).random((max(case.batch for case in cases), *shape), np.float32)
    yielded: set[str] = set()
    for case in cases:
        images = pixels[: case.batch]
        network = networks[case.tgim]
        graph = trace(network, case.timesteps, shape)

        def compiled(file: bytes, provider: Provider = "auto", images: FloatArray = images) -> Callable[[], object]:
            run = open_graph(file, batch=len(images), threads=threads, provider=provider)
            return lambda: run(images)

        yield _alternative(name(ENGINE, case), compiled(lower(graph, precision)))
        yield _alternative(name(UNCOUNTED, case), compiled(lower(graph, precision, counts=False)))
        if 1 in network.spiking.budgets and name(RELU, case) not in yielded:
            yielded.add(name(RELU, case))
            once = compiled(relu.lower(trace(network, 1, shape)))
            yield _alternative(name(RELU, case), _repeated(once, case.convolutions))
        yield _alternative(name(CPU_FLOAT32, case), compiled(lower(graph, "float32"), "cpu"))
        yield _alternative(name(EAGER, case), _eager(network, case.timesteps, images))


def _repeated(run: Callable[[], object], times: int) -> Callable[[], object]:
    def repeated() -> None:
        for _ in range(times):
            run()

    return repeated


def _eager(network: Network, timesteps: int, images: FloatArray) -> Callable[[], object]:
    import torch

    tensor = torch.from_numpy(images)

    def run() -> None:
        with torch.inference_mode():
            network(tensor, timesteps)

    return run


def _alternative(called: str, run: Callable[[], object]) -> Alternative:
    """With as many runs to a measurement as make it long enough for the clock."""
    run()
    began = time.perf_counter()
    run()
    return Alternative(called, run, max(1, round(_LONG_ENOUGH_S / (time.perf_counter() - began))))


def ratios(comparison: Comparison, case: Case, cases: Sequence[Case]) -> dict[str, Ratio]:
    """How the engine stands in a case, by what is divided; only what was measured is there."""
    measured = {measurement.name for measurement in comparison.measurements}
    engine = name(ENGINE, case)
    found = {
        "time ÷ without counts": name(UNCOUNTED, case),
        "time ÷ ReLU passes": name(RELU, case),
        "time ÷ own at smallest T": name(ENGINE, min(_alike(cases, case), key=lambda c: c.timesteps)),
    }
    times = {title: ratio(comparison, engine, other) for title, other in found.items() if other in measured}
    found = {
        "times as fast as CPU provider": name(CPU_FLOAT32, case),
        "as eager": name(EAGER, case),
    }
    if case.tgim != "full":
        found["as eager, full T-GIM"] = name(EAGER, Case("full", case.timesteps, case.batch))
    speeds = {title: ratio(comparison, engine, other).inverse for title, other in found.items() if other in measured}
    return times | speeds


def _alike(cases: Sequence[Case], case: Case) -> list[Case]:
    """Those that differ from a case in T at most."""
    return [c for c in cases if (c.tgim, c.batch) == (case.tgim, case.batch)]


def ratio(comparison: Comparison, one: str, other: str) -> Ratio:
    """The median duration of one alternative over that of another, with its interval."""
    return ratios_of_medians(
        [comparison[one].durations_s, comparison[other].durations_s],
        1,
        seed=comparison.seed,
        confidence=comparison.confidence,
        resamples=comparison.resamples,
    )[0]
