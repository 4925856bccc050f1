"""Estimates from a sample of pictures, and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
_RESAMPLES = 2000
_CELLS_AT_ONCE = 1_000_000

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value and its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class Ratio:
    """A ratio and its interval, of `CONFIDENCE`."""

    value: float
    low: float
    high: float


def share(flags: Flags) -> Estimate:
    """How many of n pictures, [n], with the binomial standard error."""
    value = float(flags.mean())
    return Estimate(value, (value * (1 - value) / len(flags)) ** 0.5)


def difference(first: Flags, second: Flags) -> Estimate:
    """How many more of the same n ≥ 2 pictures, [n] each, the second has; that of pairs, as `lmht evaluate` has it."""
    differences = second.astype(np.float64) - first
    return Estimate(float(differences.mean()), float(differences.std(ddof=1)) / len(differences) ** 0.5)


def ratios(durations: Floats, quantiles: Sequence[float], seed: int = 0) -> list[list[Ratio]]:
    """Each row's quantiles over those of the first row, [rows][quantiles].

    ``durations`` [rows, rounds] are above 0, and a column was taken in one round. The intervals are of a bootstrap over
    rounds, the same ones for all rows, which keeps them paired.
    """
    generator = np.random.default_rng(seed)
    rounds = durations.shape[1]
    at_once = max(1, _CELLS_AT_ONCE // rounds)
    parts = []
    for start in range(0, _RESAMPLES, at_once):
        drawn = generator.integers(rounds, size=(min(at_once, _RESAMPLES - start), rounds))
        parts.append(_relative(durations[:, drawn], quantiles))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(parts, axis=2), [tail, 1 - tail], axis=2)
    value = _relative(durations[:, None], quantiles)[:, :, 0]
    found = np.stack([value, low, high], axis=2).swapaxes(0, 1).tolist()  # [rows, quantiles, 3]
    return [[Ratio(*triple) for triple in row] for row in found]


def _relative(durations: Floats, quantiles: Sequence[float]) -> Floats:
    """Quantiles over the last axis, to those of the first row: [rows, samples, rounds] → [quantiles, rows, samples]."""
    found = np.quantile(durations, quantiles, axis=2)
    relative: Floats = found / found[:, :1]
    return relative
