"""How sure a figure is: the interval of a share, and the error of a figure over windows that hang together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

# Of one run; fewer say too little of how much they vary, and of how much neighbours are alike.
LEAST_WINDOWS = 12
_RESAMPLES = 2000
_Z95 = 1.959964

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Mean:
    """Of windows: ``value`` with its standard error, from as many degrees of freedom as there are blocks less one."""

    value: float
    error: float
    freedom: float


def wilson(right: int, of: int, *, samples: int | None = None) -> tuple[float, float]:
    """The 95 % interval of a share by Wilson's score; ``samples`` where fewer of them are independent than ``of``.

    Source: Wilson, J. Am. Stat. Assoc. 22 (1927) 209.
    """
    n = of if samples is None else min(of, samples)
    share, z2 = right / of, _Z95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share))


def block_length(windows: int) -> int:
    """Windows that are drawn together: the root of how many there are, so that there are about as many blocks."""
    return math.isqrt(windows)


def mean(sums: Sequence[float], weights: Sequence[float]) -> Mean:
    """Σ sums / Σ weights over windows in their order, with the error that a block bootstrap finds.

    Neighbouring windows are alike (a queue that is long stays long for a while), so that to draw single ones would find
    too small an error. Blocks of neighbours are drawn, the last window's neighbour being the first (the circular
    bootstrap of Politis and Romano, 1992). A variance over K blocks is (K − 1)/K too small, which is made good. That
    is enough for neighbours that correlate by up to a third; for more the error is found too small.

    Of `LEAST_WINDOWS` at least; raises ValueError.
    """
    above, below = np.asarray(sums, float), np.asarray(weights, float)
    windows, length = len(above), block_length(len(above))
    if windows < LEAST_WINDOWS:
        raise ValueError(f"{windows} windows are not enough")
    blocks = windows / length
    drawn = round(blocks)
    starts = _starts(windows, drawn)
    again = _blocks(above, length)[starts].sum(axis=1) / _blocks(below, length)[starts].sum(axis=1)
    error = float(np.std(again)) * math.sqrt(drawn / (blocks - 1))
    return Mean(float(above.sum() / below.sum()), error, blocks - 1)


def half_width(parts: Sequence[Mean], risk: float) -> float:
    """Half the interval of a sum or difference of independent means that misses the true one with ``risk``.

    Welch's: by Student's t, with the degrees of freedom that suit errors which are known differently well.
    """
    variance = sum(part.error**2 for part in parts)
    if not variance:
        return 0.0
    freedom = variance**2 / sum(part.error**4 / part.freedom for part in parts)
    return student(1 - risk / 2, max(1, math.floor(freedom))) * math.sqrt(variance)


def student(probability: float, freedom: int) -> float:
    """The quantile of Student's t above the median, by bisection of the closed form.

    Source: Abramowitz and Stegun, 26.7.3 and 26.7.4.
    """
    low, high = 0.0, 1.0
    while _student_cdf(high, freedom) < probability:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_cdf(middle, freedom) < probability else (low, middle)
    return high


def _student_cdf(t: float, freedom: int) -> float:
    angle = math.atan(t / math.sqrt(freedom))
    cosine, sine = math.cos(angle), math.sin(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(2 + odd, freedom - 1, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    within = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return 0.5 + within / 2


@lru_cache
def _starts(windows: int, drawn: int) -> npt.NDArray[np.int64]:
    """Where the blocks of each resample begin; the same for all figures, so that a comparison can be repeated."""
    return np.random.default_rng([windows, drawn]).integers(0, windows, size=(_RESAMPLES, drawn))


def _blocks(values: Values, length: int) -> Values:
    """The sum of the block that begins at each window."""
    around = np.concatenate([values, values[: length - 1]])
    return np.convolve(around, np.ones(length), mode="valid")
