"""The whole picture of a server: for each model the latency of all budgets in turns, one request at a time; of each the
largest rate that keeps an objective; latency below and beyond that; and what `auto` does when more is asked than can be
done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from loadtest.asks import AUTO, Ask, Mix
from loadtest.model import Model
from loadtest.peak import Objective
from loadtest.scenarios import Terms, find_peak, in_turns, overload, ramp
from loadtest.session import Session

# Of the peak: the flat part of the curve, its bend, and what lies beyond. The rates that the search tried are points of
# the curve too, and enough for the budgets between the smallest and the largest.
_RAMP = (0.3, 0.6, 0.9, 1.2)
# Of what the largest budget can do, and then of what the smallest can: up and down again.
_QUIET, _BEYOND = 0.5, 1.3
_STEPS = 7
# One request at a time takes longer to make so many that a percentile of each way means something.
_IN_TURNS = 8
_TRIES = 4
# Runs that a peak takes about: one flat out, and those of the search.
_SEARCH = 6
_RESOLUTION = 0.08
# The warm-up's length as a share of what is counted, and what a run takes beside both: to prepare, to let what is under
# way come to its end, to count.
_WARMUP, _BETWEEN_S = 0.25, 0.4


@dataclass(frozen=True)
class Suite:
    """What is asked of every model."""

    objective: Objective
    terms: Terms


def window_s(models: Sequence[Model], minutes: float) -> float:
    """How long a run may take, its warm-up aside, for the whole to take so many minutes; at least a second."""
    runs = _runs(models)
    return max(1.0, (minutes * 60 - _BETWEEN_S * runs) / (_windows(models) + _WARMUP * runs))


def warmup_s(window_s: float, most_s: float) -> float:
    """Of runs so short a part, and never more than ``most_s``."""
    return min(most_s, _WARMUP * window_s)


def _runs(models: Sequence[Model]) -> int:
    return sum((len(model.budgets) + 1) * _SEARCH + len(_ramped(model)) * len(_RAMP) + 2 for model in models)


def _windows(models: Sequence[Model]) -> int:
    """The same, a long run counted for as many as it is long."""
    return _runs(models) + len(models) * (_IN_TURNS + _STEPS - 2)


def _ramped(model: Model) -> set[int | str]:
    """The ways that get a ramp."""
    return {model.budgets[0], model.budgets[-1], AUTO}


def asks(model: Model, objective: Objective) -> list[Ask]:
    """Every budget for itself, then `auto` with the objective's time as its deadline."""
    fixed = [Ask(model.name, timesteps) for timesteps in model.budgets]
    return [*fixed, Ask(model.name, AUTO, deadline_ms=1000 * objective.seconds)]


def run(session: Session, models: Sequence[Model], suite: Suite) -> None:
    """Make all runs; what is made before an interruption is kept. Raises LoadTestError."""
    for model in models:
        ways = asks(model, suite.objective)
        _in_turns(session, ways, suite)
        reached: list[float] = []
        for ask in ways:
            reached.append(_one_way(session, ask, ask.timesteps in _ramped(model), suite))
            if session.interrupted:
                return
        *fixed, auto = reached
        _overload(session, model, min(fixed), max([*fixed, auto]), suite)


def _in_turns(session: Session, ways: Sequence[Ask], suite: Suite) -> None:
    """Latency at little load, of all ways under the same conditions; again where the client was disturbed."""
    terms = replace(suite.terms, seconds=_IN_TURNS * suite.terms.seconds)
    plan = in_turns(Mix(tuple(ways), (1.0,) * len(ways)), terms)
    for _ in range(_TRIES):
        made = session.run(plan)
        if made is None or not made.invalid:
            return


def _one_way(session: Session, ask: Ask, ramped: bool, suite: Suite) -> float:
    """Find the peak, and run the ramp around it; the rate at the peak, or what was answered at all."""
    mix = Mix.of(ask)
    peak, flat_out = find_peak(session.run, mix, suite.objective, "poisson", suite.terms, resolution=_RESOLUTION)
    session.peaks.append(peak)
    answered = flat_out.outcomes["answered"] / flat_out.seconds if flat_out is not None and flat_out.seconds else 1.0
    rate = peak.rate or max(answered, 1.0)
    if ramped:
        for plan in ramp(mix, [share * rate for share in _RAMP], "poisson", suite.terms):
            session.run(plan)
    return rate


def _overload(session: Session, model: Model, slowest: float, fastest: float, suite: Suite) -> None:
    low, high = _QUIET * slowest, _BEYOND * fastest
    half = _STEPS // 2
    up = [low * (high / low) ** (step / half) for step in range(half + 1)]
    rates = [*up, *reversed(up[:-1])]
    terms = replace(suite.terms, seconds=suite.terms.seconds * len(rates))
    ask = Ask(model.name, AUTO, deadline_ms=1000 * suite.objective.seconds)
    session.run(overload(Mix.of(ask), rates, "poisson", terms))
