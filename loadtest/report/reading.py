"""What is read out of a record before it is told: which runs make a curve, and which of them stands for a budget."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Literal, get_args

from loadtest.record import BudgetCard, Distribution, Peak, Record, Run
from loadtest.report import words
from loadtest.report.estimates import wilson

# Where nearly all is answered a latency is that of nearly everybody.
NEARLY_ALL = 0.99
_SEARCH = "find-peak"
# Of one request at a time: of all ways in turns, and of one way alone.
_IN_TURNS, _ALONE = "in-turns", "single-stream"
# Fewer answers make the last hundredth the accident of a handful.
_ENOUGH_FOR_P99 = 1000
# Scenarios whose load grows until the server has to choose: a run a rate, and one run of many rates.
_RAMP, _OVERLOAD = "ramp", "overload"
Loop = Literal["open", "closed"]
_SCENARIOS: dict[Loop, tuple[str, ...]] = {
    "open": ("open", _RAMP, "replay", _SEARCH),
    "closed": (_ALONE, "closed"),
}
# Steps of a curve beyond which those of find-peak, which are short, are not needed.
_ENOUGH_STEPS = 4
_CURVE_STEPS = 48
LITTLE = "little load"


@dataclass(frozen=True)
class Accuracy:
    """A share with its 95 % interval; ``measured`` is false where it is the card's, without an interval."""

    share: float
    low: float
    high: float
    measured: bool


@dataclass(frozen=True)
class Curve:
    """Runs of one way of asking a model under growing load, none of them INVALID."""

    model: str
    way: str
    loop: Loop
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Choice:
    """A way of asking a model, and what stands for it.

    Attributes:
        light: its run one request at a time, in turns with the other ways where there is one; else of the least load.
        peak, at_peak: its peak and the run that shows it, where known.
        accuracy, energy_nj: of a fixed budget from all its runs, as load does not change them; else of ``light``.
        peak_accuracy: the same, but else of ``at_peak``.
    """

    model: str
    way: str
    light: Run
    peak: Peak | None
    at_peak: Run | None
    accuracy: Accuracy | None
    energy_nj: float | None
    peak_accuracy: Accuracy | None

    @property
    def peak_throughput(self) -> float | None:
        """Images a second at the peak."""
        return self.at_peak.throughput if self.at_peak else None


@dataclass(frozen=True)
class Course:
    """Consecutive runs of growing load, as one course of time; none of them INVALID."""

    model: str
    way: str
    runs: tuple[Run, ...]
    deadline_s: float | None


def accuracy(record: Record, *runs: Run) -> Accuracy | None:
    """As measured; without labels by the card, weighted by the budgets that answered. None where neither is known."""
    labelled, correct = sum(r.labelled for r in runs), sum(r.correct for r in runs)
    if labelled:
        # The same picture asked twice says nothing new.
        samples = max(int(run.parameters.get("pictures", 0)) for run in runs) or None
        return Accuracy(correct / labelled, *wilson(correct, labelled, samples=samples), measured=True)
    budgets = {(m.name, b.timesteps): b.accuracy for m in record.models for b in m.budgets}
    known = [(b.images, budgets.get((r.model, b.timesteps))) for r in runs for b in r.budgets if b.images]
    total = sum(images for images, _ in known)
    if not total or any(share is None for _, share in known):
        return None
    share = sum(images * share for images, share in known if share is not None) / total
    return Accuracy(share, share, share, measured=False)


def energy_nj(*runs: Run) -> float | None:
    """Of an image; None where nothing was answered or the server said nothing of it."""
    images, total = sum(run.images for run in runs), sum(run.energy_nj for run in runs)
    return total / images if images and total else None


def spikes(run: Run) -> float | None:
    """Of an image."""
    return run.spikes / run.images if run.images and run.spikes else None


def rest_s(run: Run) -> float:
    """Of the mean latency what was neither the client's delay nor the server's queue nor its engine."""
    delay = max(0.0, run.latency.mean_s - run.service.mean_s)
    return max(0.0, run.latency.mean_s - delay - run.queue.mean_s - run.compute.mean_s)


def top_rate(run: Run) -> float:
    """The most requests a second that it was offered: of an overload in one of its windows."""
    if run.scenario == _OVERLOAD:
        return max((w.offered / w.seconds for w in run.windows), default=0.0)
    return run.offered_rate or 0.0


def profiles(record: Record) -> str:
    """Names of the energy profiles."""
    return ", ".join(sorted({model.energy_profile for model in record.models}))


def deadline_s(run: Run) -> float | None:
    """That its requests had, in seconds."""
    said = run.parameters.get("deadline_ms")
    return float(said) / 1000 if isinstance(said, int | float) and said > 0 else None


def objective_s(peaks: Sequence[Peak]) -> tuple[str, float] | None:
    """The latency that the peaks are about, as `p99` and seconds; None where they are about none, or not the same."""
    said = {m.groups() for p in peaks if (m := re.match(r"(p[\d.]+)\s*(?:≤|<=|=|<)\s*([\d.]+)\s*ms", p.objective))}
    return next(((name, float(ms) / 1000) for name, ms in said), None) if len(said) == 1 else None


def ways(record: Record) -> list[tuple[str, str]]:
    """Models and ways of asking, in the record's order of models; fixed budgets first, ascending."""
    found = dict.fromkeys((run.model, run.way) for run in record.runs)
    models = list(dict.fromkeys(model for model, _ in found))
    return sorted(found, key=lambda f: (models.index(f[0]), not f[1].isdecimal(), int(f[1]) if f[1].isdecimal() else 0))


def curves(record: Record) -> list[Curve]:
    """For each way of asking its runs under growing load, of open loops and of closed ones."""
    found = []
    for model, way in ways(record):
        for loop in get_args(Loop):
            runs = _steps([r for r in _valid(record, model, way) if r.scenario in _SCENARIOS[loop]])
            if runs:
                found.append(Curve(model, way, loop, tuple(sorted(runs, key=lambda r: r.offered_rate or 0))))
    return found


def choices(record: Record) -> list[Choice]:
    """Each way of asking with what stands for it. A mix is none: its figures are those of no budget."""
    return [choice for model, way in ways(record) if way != "mix" and (choice := _choice(record, model, way))]


def courses(record: Record) -> list[Course]:
    """Where the server had to choose: ramps that several budgets answered, or else the largest load of each way."""
    valid = [run for run in record.runs if not run.invalid]
    ramps = [
        Course(model, way, tuple(runs), deadline_s(runs[0]))
        for (model, way, scenario), group in groupby(valid, key=lambda r: (r.model, r.way, r.scenario))
        if scenario in (_RAMP, _OVERLOAD) and _chosen(runs := list(group))
    ]
    if ramps:
        return ramps
    top = [max(c.runs, key=lambda r: r.offered_rate or r.throughput) for c in curves(record)]
    return [Course(run.model, run.way, (run,), deadline_s(run)) for run in top if _chosen([run])]


def cards(record: Record, model: str) -> tuple[BudgetCard, ...]:
    """The budgets of a model by its card."""
    return next((m.budgets for m in record.models if m.name == model), ())


@lru_cache(maxsize=4096)
def quantiles_s(distribution: Distribution, shares: tuple[float, ...]) -> tuple[float | None, ...]:
    """Several at once, by the record's own rule of which can be known."""
    return tuple(distribution.quantile_s(share) for share in shares)


def told_ms(distribution: Distribution, shares: tuple[float, ...]) -> tuple[str, ...]:
    """Several for a table, in milliseconds; those that so few answers do not make sure have a ≈ before them."""
    few = distribution.count < _ENOUGH_FOR_P99
    return tuple(
        f"≈{words.ms(seconds)}" if few and share >= 0.99 and seconds is not None else words.ms(seconds)
        for share, seconds in zip(shares, quantiles_s(distribution, shares), strict=True)
    )


def little_load(choices: Sequence[Choice]) -> str:
    """What the latencies at little load are, which is more than that where all ways had the same conditions."""
    scenarios = {choice.light.scenario for choice in choices}
    said = {_IN_TURNS: "one request at a time, budgets in turns", _ALONE: "one request at a time"}
    return said.get(scenarios.pop(), LITTLE) if len(scenarios) == 1 else LITTLE


def steps_of(distribution: Distribution) -> Iterator[tuple[float, float]]:
    """The quantile curve: shares and the seconds that they stayed within, in even steps of the number of nines.

    As far as ten samples lie beyond a share, and no further than 99.9 %.
    """
    if distribution.count < 20:
        return
    nines = min(3.0, math.log10(distribution.count / 10))
    shares = [1 - 10 ** -(nines * i / _CURVE_STEPS) for i in range(_CURVE_STEPS + 1)]
    values = distribution.decoded().get_percentile_to_value_dict([100 * share for share in shares])
    yield from ((share, values[100 * share] / 1e6) for share in shares)


def _valid(record: Record, model: str, way: str) -> list[Run]:
    return [r for r in record.runs if (r.model, r.way) == (model, way) and not r.invalid and r.latency.count]


def _steps(runs: list[Run]) -> list[Run]:
    lasting = [run for run in runs if run.scenario != _SEARCH]
    if len(lasting) >= _ENOUGH_STEPS:
        return lasting
    # A run that the search gave up early shows how a queue begins, and not what it comes to.
    whole_s = max((run.seconds for run in runs), default=0.0)
    return [run for run in runs if run.scenario != _SEARCH or run.seconds >= 0.99 * whole_s]


def _choice(record: Record, model: str, way: str) -> Choice | None:
    runs = _valid(record, model, way)
    alone = [run for scenario in (_IN_TURNS, _ALONE) for run in runs if run.scenario == scenario]
    paced = sorted((r for r in runs if r.offered_rate and r.scenario != _OVERLOAD), key=lambda r: r.offered_rate or 0)
    steady = [run for run in runs if run.scenario != _OVERLOAD]
    light = next(iter(alone or [r for r in paced if r.answered_share >= NEARLY_ALL] or steady), None)
    if light is None:
        return None
    peak = next((p for p in record.peaks if (p.model, p.way) == (model, way)), None)
    at_peak = next((r for r in runs if peak and r.name == peak.run), None)
    fixed = way.isdecimal()
    return Choice(
        model,
        way,
        light,
        peak,
        at_peak,
        accuracy(record, *(runs if fixed else [light])),
        energy_nj(*(runs if fixed else [light])),
        accuracy(record, *(runs if fixed else [at_peak])) if at_peak else None,
    )


def _chosen(runs: list[Run]) -> bool:
    return len({b.timesteps for run in runs for b in run.budgets if b.images}) > 1
