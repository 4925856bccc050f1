"""What differs between two records, and which of it noise could explain.

A run's windows are its repetitions: each figure is one over windows, with the error that a block bootstrap finds
(`estimates.mean`), and the intervals of b against a are Welch's. Latencies, throughput and energy are compared by the
logarithm of their ratio, shares by their difference; over all runs together, which finds what is true of all of them,
and in each run. There are many figures, and at 5 % of false alarms each nearly every comparison would end in one. So
all intervals are made so wide that together they hold with 95 %: half of the risk is shared by the figures over all
runs, the other half by those of single ones (Bonferroni).

What no window can show is what differs between two starts of the same server (memory layout, another machine's
neighbours): two records of the same server tell how much that is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from loadtest.record import Record, Run, Window
from loadtest.report import comparable
from loadtest.report.comparable import Unjudged
from loadtest.report.estimates import LEAST_WINDOWS, Mean, half_width, mean

RISK = 0.05
Metric = Literal["p50", "p99", "throughput", "answered", "accuracy", "energy"]
METRICS: tuple[Metric, ...] = get_args(Metric)
SHARES: tuple[Metric, ...] = ("answered", "accuracy")  # compared by their difference, all others by their ratio
_MORE_IS_BETTER: tuple[Metric, ...] = ("throughput", "answered", "accuracy")
_LATENCIES: tuple[Metric, ...] = ("p50", "p99")

# Wholly beyond the tolerance; surely there, but perhaps within it; what noise could be.
Verdict = Literal["better", "worse", "better, perhaps little", "worse, perhaps little", "noise"]


@dataclass(frozen=True)
class Tolerance:
    """How much worse is still good enough: a share of latency, throughput and energy; for shares their difference."""

    relative: float = 0.05
    points: float = 0.005

    def of(self, metric: Metric) -> float:
        """In the terms of `Line.change`."""
        return self.points if metric in SHARES else self.relative


@dataclass(frozen=True)
class Line:
    """One figure of one run or, with ``run`` empty, of all: ``change`` is b / a − 1, or b − a of a share.

    ``low`` and ``high`` end its interval.
    """

    run: str
    metric: Metric
    a: float
    b: float
    change: float
    low: float
    high: float
    verdict: Verdict


@dataclass(frozen=True)
class PeakLine:
    """A peak in both records: the rate that held and the lowest above it that did not, None where none was tried."""

    model: str
    way: str
    objective: str
    a: float | None
    a_below: float | None
    b: float | None
    b_below: float | None


@dataclass(frozen=True)
class Differences:
    """All of it, the figures over all runs first. The intervals miss one of the true changes with `RISK`."""

    lines: tuple[Line, ...]
    unjudged: tuple[Unjudged, ...]
    peaks: tuple[PeakLine, ...]
    warnings: tuple[str, ...]
    tolerance: Tolerance

    @property
    def worse(self) -> list[Line]:
        """Wholly beyond the tolerance."""
        return [line for line in self.lines if line.verdict == "worse"]

    @property
    def status(self) -> int:
        """0 nothing worse, 1 something is, 2 where not all that should be could be judged."""
        if self.worse:
            return 1
        return 2 if not self.lines or any(not each.search for each in self.unjudged) else 0


def compare(a: Record, b: Record, tolerance: Tolerance) -> Differences:
    """B against a."""
    matched, unjudged = comparable.matched(a, b)
    pairs: list[_Pair] = []
    profiles = {(m.name, m.energy_profile) for m in a.models} == {(m.name, m.energy_profile) for m in b.models}
    for name, before, after in matched:
        search = comparable.searched(before, a)
        if reason := comparable.obstacle(before, after):
            unjudged.append(Unjudged(name, reason, search))
            continue
        found = [
            _Pair(name, metric, x, y)
            for metric in METRICS
            if (metric != "energy" or profiles) and (x := _figure(before, metric)) and (y := _figure(after, metric))
        ]
        if not found:
            unjudged.append(Unjudged(name, comparable.scarcity(before, after), search))
        pairs += found
    together = [own for m in METRICS if len(own := [pair for pair in pairs if pair.metric == m]) > 1]
    halves = RISK / 2 if together else RISK
    lines = [_line("", own, tolerance, halves / len(together)) for own in together]
    lines += [_line(pair.run, [pair], tolerance, halves / len(pairs)) for pair in pairs]
    return Differences(tuple(lines), tuple(unjudged), tuple(_peaks(a, b)), tuple(comparable.warnings(a, b)), tolerance)


@dataclass(frozen=True)
class _Pair:
    """A figure of a run in both records; of a ratio the logarithm."""

    run: str
    metric: Metric
    a: Mean
    b: Mean


def _figure(run: Run, metric: Metric) -> Mean | None:
    """None where there are not enough windows that have it, or nothing that a ratio could be of."""
    sums, weights = _per_window(comparable.windows(run), metric)
    if len(sums) < LEAST_WINDOWS or not sum(weights):
        return None
    found = mean(sums, weights)
    if metric in _LATENCIES:
        return found
    if metric not in SHARES:
        return Mean(math.log(found.value), found.error / found.value, found.freedom) if found.value > 0 else None
    # Windows that are all alike, as where everything was answered, do not show that a share is without error.
    trials = float(sum(weights))
    if metric == "accuracy":
        trials = min(trials, float(run.parameters.get("pictures", 0)) or trials)
    likely = (found.value * trials + 1) / (trials + 2)
    return Mean(found.value, max(found.error, math.sqrt(likely * (1 - likely) / (trials + 2))), found.freedom)


def _per_window(windows: Sequence[Window], metric: Metric) -> tuple[list[float], list[float]]:
    """Σ of the first ÷ Σ of the second is the figure, or its logarithm; windows with nothing to count are left out."""
    of: dict[Metric, Callable[[Window], tuple[float | None, float]]] = {
        "p50": lambda w: (_log(w.latency_p50_s), 1),
        "p99": lambda w: (_log(w.latency_p99_s), 1),
        "throughput": lambda w: (w.images, w.seconds),
        "answered": lambda w: (w.outcomes.get("answered", 0), w.offered),
        "accuracy": lambda w: (w.correct, w.labelled),
        "energy": lambda w: (w.energy_nj, w.images),
    }
    found = [(s, weight) for s, weight in map(of[metric], windows) if s is not None and weight]
    return [s for s, _ in found], [weight for _, weight in found]


def _log(value: float | None) -> float | None:
    return math.log(value) if value else None


def _line(run: str, pairs: Sequence[_Pair], tolerance: Tolerance, risk: float) -> Line:
    """The mean of what differs in these pairs, which are of one metric."""
    metric, count = pairs[0].metric, len(pairs)
    before, after = (sum(getattr(pair, which).value for pair in pairs) / count for which in ("a", "b"))
    errors = [Mean(0.0, side.error / count, side.freedom) for pair in pairs for side in (pair.a, pair.b)]
    middle, half = after - before, half_width(errors, risk)
    ends = (middle, middle - half, middle + half)
    if metric not in SHARES:
        before, after = math.exp(before), math.exp(after)
        ends = (math.expm1(ends[0]), math.expm1(ends[1]), math.expm1(ends[2]))
    return Line(run, metric, before, after, *ends, _verdict(metric, ends[1], ends[2], tolerance.of(metric)))


def _verdict(metric: Metric, low: float, high: float, tolerance: float) -> Verdict:
    # By how much worse it is at least, and at most.
    least, most = (-high, -low) if metric in _MORE_IS_BETTER else (low, high)
    if least > tolerance:
        return "worse"
    if most < -tolerance:
        return "better"
    if least > 0:
        return "worse, perhaps little"
    return "better, perhaps little" if most < 0 else "noise"


def _peaks(a: Record, b: Record) -> Iterator[PeakLine]:
    second = {(p.model, p.way, p.objective): p for p in b.peaks}
    for peak in a.peaks:
        other = second.get((peak.model, peak.way, peak.objective))
        if other is not None:
            ends = [(p.rate, min((t.rate for t in p.attempts if not t.held), default=None)) for p in (peak, other)]
            yield PeakLine(peak.model, peak.way, peak.objective, *ends[0], *ends[1])
