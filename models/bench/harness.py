"""Compare the durations of alternatives fairly on a machine that is not quiet.

    comparison = compare([Alternative("eager", eager), Alternative("engine", engine)], baseline="eager")
    comparison["engine"].ratio   # of its median duration to the baseline's, with an interval

`compare` reads the clock around each alternative; `compare_measured` takes alternatives that come with a duration of
their own, such as the time for a request that a load generator found.

Every round runs each alternative once, in a new random order, so that whatever slows the machine for a while slows
all of them. Rounds stay paired: the interval resamples whole rounds, and a slow round that hits all alternatives by
the same factor changes neither a ratio nor its interval.

The interval is the percentile bootstrap's (B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993,
chapter 13) for the ratio of medians.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from models.machine import Machine, describe_machine

Clock = Callable[[], float]
_CELLS_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class Alternative:
    """One way of doing a unit of work.

    ``repeats`` calls make one measurement, which is divided by them: for work so short that reading the clock counts.
    """

    name: str
    run: Callable[[], object]
    repeats: int = 1


@dataclass(frozen=True)
class Ratio:
    """A ratio of two median durations and its confidence interval. Below 1: faster than the baseline."""

    value: float
    low: float
    high: float

    @property
    def inverse(self) -> Ratio:
        """How many times as fast as the baseline."""
        return Ratio(1 / self.value, 1 / self.high, 1 / self.low)


@dataclass(frozen=True)
class Measurement:
    """What one alternative took: a duration in seconds for each round, in the order of the rounds."""

    name: str
    repeats: int
    durations_s: tuple[float, ...]
    ratio: Ratio

    @property
    def median_s(self) -> float:
        """The median over the rounds."""
        return float(np.median(self.durations_s))

    @property
    def quartiles_s(self) -> tuple[float, float]:
        """The first and third quartile over the rounds: half of the rounds lie between them."""
        low, high = np.quantile(self.durations_s, [0.25, 0.75]).tolist()
        return low, high


@dataclass(frozen=True)
class Comparison:
    """All measurements of one run, in the order in which the alternatives were given.

    ``stopped_by`` says whether all rounds were run or the time limit came first.
    """

    title: str
    baseline: str
    measurements: tuple[Measurement, ...]
    rounds: int
    warmup: int
    seed: int
    confidence: float
    resamples: int
    stopped_by: Literal["rounds", "time limit"]
    machine: Machine

    def __getitem__(self, name: str) -> Measurement:
        """The measurement of an alternative. Raises KeyError."""
        for measurement in self.measurements:
            if measurement.name == name:
                return measurement
        raise KeyError(name)


def compare(
    alternatives: Sequence[Alternative],
    *,
    baseline: str,
    title: str = "",
    rounds: int = 20,
    time_limit_s: float | None = None,
    warmup: int = 2,
    seed: int = 0,
    confidence: float = 0.95,
    resamples: int = 10_000,
    synchronize: Callable[[], object] | None = None,
    on_round: Callable[[int, int], object] | None = None,
    machine: Machine | None = None,
    clock: Clock = time.perf_counter,
) -> Comparison:
    """Measure alternatives in interleaved rounds.

    Args:
        alternatives: with distinct names; each does the same unit of work.
        baseline: the name of the one that the others are compared with.
        title: what the comparison is about, for its reports.
        rounds: how many, each of which runs every alternative.
        time_limit_s: no round starts once measuring has taken this long; one is always run.
        warmup: unmeasured runs of each alternative before the first round.
        seed: of the order within the rounds and of the bootstrap.
        confidence: of the intervals.
        resamples: of the bootstrap.
        synchronize: waits for a device's queued work; called before the clock is read, at either end.
        on_round: called with the rounds done and the rounds wanted after each round; see `report.progress`.
        machine: described beside the figures; this one, as `describe_machine` finds it, unless given.
        clock: reads seconds.

    Raises:
        ValueError: when the arguments make no comparison, or the clock stood still during an alternative.
        Exception: whatever an alternative raises, with its name added as a note.
    """
    names = [alternative.name for alternative in alternatives]
    if len(set(names)) != len(names):
        raise ValueError(f"two alternatives have the same name: {', '.join(names)}")
    if any(alternative.repeats < 1 for alternative in alternatives):
        raise ValueError("repeats must be at least 1")
    settle = synchronize or (lambda: None)
    comparison = compare_measured(
        {alternative.name: partial(_measure, alternative, settle, clock) for alternative in alternatives},
        baseline=baseline,
        title=title,
        rounds=rounds,
        time_limit_s=time_limit_s,
        warmup=warmup,
        seed=seed,
        confidence=confidence,
        resamples=resamples,
        on_round=on_round,
        machine=machine,
        clock=clock,
    )
    repeated = zip(comparison.measurements, alternatives, strict=True)
    return replace(comparison, measurements=tuple(replace(m, repeats=a.repeats) for m, a in repeated))


def compare_measured(
    measures: Mapping[str, Callable[[], float]],
    *,
    baseline: str,
    title: str = "",
    rounds: int = 20,
    time_limit_s: float | None = None,
    warmup: int = 2,
    seed: int = 0,
    confidence: float = 0.95,
    resamples: int = 10_000,
    on_round: Callable[[int, int], object] | None = None,
    machine: Machine | None = None,
    clock: Clock = time.perf_counter,
) -> Comparison:
    """Compare alternatives, by their names, that each measure themselves: called, they return seconds for one unit.

    Everything else is as for `compare`; ``clock`` is only for the time limit. Raises ValueError when the arguments make
    no comparison or a duration is not above 0, and whatever an alternative raises, with its name added as a note.
    """
    _check(list(measures), baseline, rounds, warmup, confidence, resamples)
    for name, measure in measures.items():
        for _ in range(warmup):
            _named(name, measure)
    order = list(measures.items())
    shuffle = random.Random(seed).shuffle
    durations: dict[str, list[float]] = {name: [] for name in measures}
    started = clock()
    stopped_by: Literal["rounds", "time limit"] = "rounds"
    for done in range(rounds):
        if done and time_limit_s is not None and clock() - started >= time_limit_s:
            stopped_by = "time limit"
            break
        shuffle(order)
        for name, measure in order:
            durations[name].append(_named(name, measure))
        if on_round:
            on_round(done + 1, rounds)
    for name, taken in durations.items():
        if min(taken) <= 0:
            raise ValueError(f"the clock stood still during {name!r}: give it more repeats")
    ratios = ratios_of_medians(
        list(durations.values()),
        list(durations).index(baseline),
        seed=seed,
        confidence=confidence,
        resamples=resamples,
    )
    return Comparison(
        title=title,
        baseline=baseline,
        measurements=tuple(
            Measurement(name, 1, tuple(taken), ratio)
            for (name, taken), ratio in zip(durations.items(), ratios, strict=True)
        ),
        rounds=len(durations[baseline]),
        warmup=warmup,
        seed=seed,
        confidence=confidence,
        resamples=resamples,
        stopped_by=stopped_by,
        machine=machine or describe_machine(),
    )


def ratios_of_medians(
    durations: Sequence[Sequence[float]],
    baseline: int,
    *,
    seed: int = 0,
    confidence: float = 0.95,
    resamples: int = 10_000,
) -> list[Ratio]:
    """Each alternative's ratio of medians to the baseline's, with its interval.

    ``durations`` [alternatives, rounds] are in one unit, and a column was taken in one round; ``baseline`` is a row.
    """
    taken = np.array(durations, np.float64)
    rounds = taken.shape[1]
    generator = np.random.default_rng(seed)
    medians = np.empty((len(taken), resamples))
    at_once = max(1, _CELLS_AT_ONCE // rounds)
    for start in range(0, resamples, at_once):
        drawn = generator.integers(rounds, size=(min(at_once, resamples - start), rounds))
        for row, of_alternative in enumerate(taken):
            # The same rounds for all rows, which keeps them paired.
            medians[row, start : start + len(drawn)] = np.median(of_alternative[drawn], axis=1)
    values = np.median(taken, axis=1) / np.median(taken[baseline])
    tail = (1 - confidence) / 2
    lows, highs = np.quantile(medians / medians[baseline], [tail, 1 - tail], axis=1)
    return [Ratio(*triple) for triple in zip(values.tolist(), lows.tolist(), highs.tolist(), strict=True)]


def _check(names: list[str], baseline: str, rounds: int, warmup: int, confidence: float, resamples: int) -> None:
    if baseline not in names:
        raise ValueError(f"the baseline {baseline!r} is none of the alternatives: {', '.join(names)}")
    if rounds < 1 or warmup < 0 or resamples < 1:
        raise ValueError("rounds and resamples must be at least 1, and warmup at least 0")
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence of {confidence} does not lie between 0 and 1")


def _named(name: str, measure: Callable[[], float]) -> float:
    """What it measures; the name of what fails is added to its exception."""
    try:
        return measure()
    except Exception as error:  # any: it goes on to the caller, who only learns whose it was
        error.add_note(f"while running the alternative {name!r}")
        raise


def _measure(alternative: Alternative, settle: Callable[[], object], clock: Clock) -> float:
    """Seconds for one unit of work."""
    run, repeats = alternative.run, range(alternative.repeats)
    settle()
    started = clock()
    for _ in repeats:
        run()
    settle()
    return (clock() - started) / alternative.repeats
