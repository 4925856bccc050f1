"""Runs whose windows are as noisy as one says: what a comparison has to see through."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from loadtest.record import Distribution, Record, Run, Window
from tests.loadtest.report import records

Values = npt.NDArray[np.float64]
_NONE = Distribution.of({})
_BLANK = records.run(records.NUMBERS, 1, 100.0, seconds=1.0)


def alike(windows: int, likeness: float, draw: np.random.Generator) -> Values:
    """Normal values of which neighbours correlate by so much."""
    values = draw.standard_normal(windows)
    for i in range(1, windows):
        values[i] = likeness * values[i - 1] + math.sqrt(1 - likeness**2) * values[i]
    return values


def noisy(
    name: str,
    draw: np.random.Generator,
    *,
    windows: int = 20,
    likeness: float = 0.3,
    slower: float = 1.0,
    accuracy: float = 0.85,
    answered: float = 0.995,
    energy: float = 1.0,
    rate: float = 600.0,
) -> Run:
    """Half seconds whose p50 scatters by 10 %, p99 by 30 %, energy by 2 %, and counts as counts do."""

    def window(index: int, p50: float, p99: float, joules: float) -> Window:
        offered = int(draw.poisson(rate / 2))
        images = int(draw.binomial(offered, answered))
        return Window(
            start_s=0.5 * index,
            seconds=0.5,
            offered=offered,
            outcomes={"answered": images, "refused": offered - images},
            images=images,
            labelled=images,
            correct=int(draw.binomial(images, accuracy)),
            latency_p50_s=0.002 * slower * math.exp(0.1 * p50) if images else None,
            latency_p99_s=0.004 * slower * math.exp(0.3 * p99) if images else None,
            queue_p50_s=None,
            compute_p50_s=None,
            budgets={1: images},
            energy_nj=3000.0 * images * energy * math.exp(0.02 * joules),
        )

    scatter = zip(*(alike(windows, likeness, draw) for _ in range(3)), strict=True)
    made = tuple(window(i, *values) for i, values in enumerate(scatter))
    return replace(_BLANK, name=name, seconds=0.5 * windows, windows=made, latency=_NONE)


def record(draw: np.random.Generator, runs: int = 3, *, slower: float = 1.0, windows: int = 20) -> Record:
    return records.record([noisy(f"run {i}", draw, slower=slower, windows=windows) for i in range(runs)])
