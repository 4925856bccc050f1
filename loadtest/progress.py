"""What a client process tells while it runs: counts, and latencies as coarse counts that add up."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
# From ten microseconds to a thousand seconds, each bound 5 % above the one before: enough to watch.
_LOWEST_S, _STEP, _BUCKETS = 1e-5, math.log(1.05), 378


@dataclass(frozen=True)
class Progress:
    """Of one process: seconds since the start, requests sent so far; and since it told the last time, requests that

    ended, that were answered, that missed the limit of the plan, and how often each latency came.
    """

    elapsed_s: float
    sent: int
    ended: int
    answered: int
    missed: int
    latencies: Counts


@dataclass
class Watched:
    """All processes together, as far as they have told."""

    elapsed_s: float = 0.0
    ended: int = 0
    answered: int = 0
    missed: int = 0

    def __post_init__(self) -> None:
        self._latencies = np.zeros(_BUCKETS, np.int64)
        self._sent: dict[int, int] = {}

    @property
    def sent(self) -> int:
        """Requests."""
        return sum(self._sent.values())

    def add(self, process: int, told: Progress) -> None:
        """What a process has told."""
        self.elapsed_s = max(self.elapsed_s, told.elapsed_s)
        self._sent[process] = told.sent
        self.ended += told.ended
        self.answered += told.answered
        self.missed += told.missed
        self._latencies += told.latencies

    def quantile_s(self, share: float) -> float | None:
        """The latency that this share of answers stayed within, to 5 %; None without any."""
        cumulative = np.cumsum(self._latencies)
        if not cumulative[-1]:
            return None
        bucket = int(np.searchsorted(cumulative, share * cumulative[-1]))
        return _LOWEST_S * math.exp(_STEP * bucket)


def latency_counts(seconds: npt.NDArray[np.float64]) -> Counts:
    """How many latencies fall into each bucket; bucket b ends where the bound b does."""
    if not len(seconds):
        return np.zeros(_BUCKETS, np.int64)
    buckets = np.ceil(np.log(np.maximum(seconds, _LOWEST_S) / _LOWEST_S) / _STEP).astype(np.int64)
    return np.bincount(np.minimum(buckets, _BUCKETS - 1), minlength=_BUCKETS).astype(np.int64)


def in_words(watched: Watched, name: str) -> str:
    """One line."""
    rate = watched.sent / watched.elapsed_s if watched.elapsed_s > 0 else 0.0
    share = 100 * watched.answered / watched.ended if watched.ended else 0.0
    parts = [f"{name}: {watched.sent:,} sent, {rate:,.0f}/s", f"{share:.4g} % of {watched.ended:,} answered"]
    quantiles: Iterable[tuple[str, float | None]] = (
        ("p50", watched.quantile_s(0.5)),
        ("p99", watched.quantile_s(0.99)),
    )
    parts += [f"{name} {1000 * seconds:.3g} ms" for name, seconds in quantiles if seconds is not None]
    return ", ".join(parts)
