"""The largest rate at which an objective holds: by doubling, then by halving what is in between."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from loadtest.errors import LoadTestError
from loadtest.record import Run

Verdict = Literal["held", "missed", "unknown"]
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_OBJECTIVE = re.compile(r"p([0-9]+(?:\.[0-9]+)?) *(?:=|<=|≤) *([0-9]+(?:\.[0-9]+)?) *(us|ms|s)")
# Nobody wants to know whether a server answers a request a day.
_LEAST = 0.01


@dataclass(frozen=True)
class Objective:
    """A share of all requests that is to be answered within a time; one that is refused, late or lost is not."""

    share: float
    seconds: float

    @property
    def text(self) -> str:
        """For people."""
        return f"p{100 * self.share:.10g} ≤ {1000 * self.seconds:g} ms"

    def misses(self, requests: float) -> int:
        """How many of so many requests may miss it."""
        return math.floor((1 - self.share) * requests + 1e-9)

    def held(self, run: Run) -> bool:
        """Whether a run kept it."""
        return run.offered > 0 and self.missed(run) <= self.misses(run.offered)

    def missed(self, run: Run) -> int:
        """How many requests of a run missed it, to a thousandth of its time; what got no answer did."""
        histogram = run.latency.decoded()
        in_time = sum(
            step.count_added_in_this_iter_step
            for step in histogram.get_recorded_iterator()
            if histogram.get_lowest_equivalent_value(step.value_iterated_to) <= 1e6 * self.seconds
        )
        return int(run.offered - in_time)


def parse(text: str) -> Objective:
    """An objective such as `p99=50ms`. Raises LoadTestError."""
    found = _OBJECTIVE.fullmatch(text.strip())
    if found is None or not 0 < float(found[1]) < 100 or float(found[2]) == 0:
        raise LoadTestError(f"an objective is like p99=50ms, not {text!r}")
    return Objective(float(found[1]) / 100, float(found[2]) * _UNITS[found[3]])


@dataclass(frozen=True)
class Tried:
    """A rate, and whether the objective held there; unknown where the client could not keep up."""

    rate: float
    verdict: Verdict


@dataclass(frozen=True)
class Found:
    """``rate`` is None where it held nowhere; ``bounded`` is false where the peak may lie beyond."""

    rate: float | None
    bounded: bool
    tried: tuple[Tried, ...]


def search(
    attempt: Callable[[float], Verdict | None], *, start: float, resolution: float, most: float, tries: int = 40
) -> Found:
    """Look for the largest rate that holds.

    Args:
        attempt: makes a run at a rate; None ends the search with what is known.
        start: the first rate.
        resolution: how near the largest rate that held and the least that did not are to come, as a share.
        most: no rate above this is tried.
        tries: nor are more of them.
    """
    tried: list[Tried] = []
    good: float | None = None
    bad: Tried | None = None
    rate = min(start, most)
    while len(tried) < tries and (verdict := attempt(rate)) is not None:
        tried.append(Tried(rate, verdict))
        if verdict == "held":
            good = rate
        else:
            bad = tried[-1]
        if good is None:
            rate = rate / 2
            if rate < _LEAST:
                break
        elif bad is None:
            if rate >= most:
                break
            rate = min(2 * rate, most)
        elif bad.rate <= good * (1 + resolution):
            break
        else:
            rate = (good + bad.rate) / 2
    return Found(good, bad is not None and bad.verdict == "missed", tuple(tried))
