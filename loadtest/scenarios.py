"""The scenarios, as plans; and those that are made of several runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from loadtest.arrivals import Arrivals, Step
from loadtest.asks import Mix
from loadtest.errors import LoadTestError
from loadtest.peak import Objective, Verdict, search
from loadtest.plan import Closed, Limit, Open, Plan, Replay
from loadtest.record import Attempt, Peak, Run
from loadtest.trace import Trace

Runs = Callable[[Plan], Run | None]
# Of clients that keep a server as busy as it can be, without knowing how busy that is.
_BUSY = 16
_START = 0.5


@dataclass(frozen=True)
class Terms:
    """What all runs of a command have in common."""

    seconds: float
    warmup_s: float
    seed: int
    most_requests: int | None = None


def single_stream(mix: Mix, terms: Terms) -> Plan:
    """One client that asks, waits and asks again."""
    return replace(closed(mix, 1, terms), name=f"{mix.title}, one at a time", scenario="single-stream")


def in_turns(mix: Mix, terms: Terms) -> Plan:
    """One client that asks now one way, now another, as is drawn: what disturbs the machine disturbs all ways alike.

    Each of them is a run of its own in the record.
    """
    plan = replace(closed(mix, 1, terms), name=f"{mix.asks[0].model}, in turns", scenario="in-turns")
    return replace(plan, apart=True)


def closed(mix: Mix, concurrency: int, terms: Terms) -> Plan:
    """So many clients that each wait for their answers."""
    name = f"{mix.title}, {concurrency} at once"
    return _plan(name, "closed", mix, Closed(concurrency), terms, {"concurrency": concurrency})


def opened(mix: Mix, rate: float, arrivals: Arrivals, terms: Terms, scenario: str = "open") -> Plan:
    """Requests at a rate, whatever becomes of them."""
    load = Open((Step(rate, terms.warmup_s + terms.seconds),), arrivals)
    return _plan(f"{mix.title} at {rate:.4g}/s", scenario, mix, load, terms, {"rate": rate, "arrivals": arrivals})


def offline(mix: Mix, concurrency: int, terms: Terms) -> Plan:
    """As much as goes: a few large requests at once, and the next as soon as one is answered."""
    name = f"{mix.title}, as fast as it goes"
    return _plan(name, "offline", mix, Closed(concurrency), terms, {"concurrency": concurrency})


def ramp(mix: Mix, rates: Sequence[float], arrivals: Arrivals, terms: Terms) -> list[Plan]:
    """A run for each rate."""
    return [opened(mix, rate, arrivals, terms, "ramp") for rate in rates]


def overload(mix: Mix, rates: Sequence[float], arrivals: Arrivals, terms: Terms) -> Plan:
    """One run whose rate rises and falls, each for the same time; the first holds during the warm-up too."""
    each = terms.seconds / len(rates)
    steps = [Step(rate, each) for rate in rates]
    if terms.warmup_s:
        steps.insert(0, Step(rates[0], terms.warmup_s))
    name = f"{mix.title}, {min(rates):.4g} to {max(rates):.4g}/s"
    parameters: dict[str, float | int | str] = {
        "rates": " ".join(f"{rate:.4g}" for rate in rates),
        "arrivals": arrivals,
    }
    return _plan(name, "overload", mix, Open(tuple(steps), arrivals), terms, parameters)


def replay(trace: Trace, terms: Terms) -> Plan:
    """The requests of a trace, which takes as long as it takes; those of the warm-up are not counted."""
    if trace.seconds <= terms.warmup_s:
        raise LoadTestError(f"the trace takes {trace.seconds:g} s, and the warm-up {terms.warmup_s:g}")
    # The last request is to be among those that are sent.
    seconds = trace.seconds - terms.warmup_s + 1e-3
    return _plan(f"{trace.mix.title}, replayed", "replay", trace.mix, trace.load, replace(terms, seconds=seconds), {})


def rates(first: float, last: float, steps: int) -> list[float]:
    """So many rates from the first to the last, equally far apart. Raises LoadTestError."""
    if steps < 1 or not first > 0 or not last > 0:
        raise LoadTestError("a ramp has at least one step, and rates above 0")
    if steps == 1:
        return [first]
    return [first + (last - first) * step / (steps - 1) for step in range(steps)]


def find_peak(
    run: Runs,
    mix: Mix,
    objective: Objective,
    arrivals: Arrivals,
    terms: Terms,
    *,
    start: float | None = None,
    resolution: float = 0.05,
    most: float = 100_000.0,
) -> tuple[Peak, Run | None]:
    """The largest rate at which an objective holds for a whole run; and a run at all the server can do.

    Unless ``start`` says where to begin, that is half of what a closed loop of some clients gets.
    """
    flat_out = None
    if start is None:
        flat_out = run(closed(mix, _BUSY, terms))
        start = max(1.0, _START * _answers(flat_out))
    names: list[str] = []

    def attempt(rate: float) -> Verdict | None:
        plan = opened(mix, rate, arrivals, terms, "find-peak")
        planned = rate * terms.seconds
        # A third more than may miss, as the number of requests is drawn.
        limit = Limit(objective.seconds, int(1.3 * objective.misses(planned)) + 3)
        made = run(replace(plan, limit=limit, parameters={**plan.parameters, "objective": objective.text}))
        if made is None:
            return None
        names.append(made.name)
        if made.seconds < 0.99 * terms.seconds and objective.missed(made) <= limit.misses:
            return "unknown"  # somebody interrupted it
        # A client that is late only adds to the latency: what held in spite of it held.
        if objective.held(made):
            return "held"
        return "unknown" if made.invalid else "missed"

    found = search(attempt, start=start, resolution=resolution, most=most)
    attempts = tuple(
        Attempt(tried.rate, tried.verdict == "held", name) for tried, name in zip(found.tried, names, strict=False)
    )
    best = next((each.run for each in attempts if each.held and each.rate == found.rate), None)
    peak = Peak(mix.asks[0].model, mix.way, objective.text, found.rate, found.bounded, best, attempts)
    return peak, flat_out


def _answers(run: Run | None) -> float:
    return run.outcomes.get("answered", 0) / run.seconds if run is not None and run.seconds else 0.0


def _plan(
    name: str,
    scenario: str,
    mix: Mix,
    load: Closed | Open | Replay,
    terms: Terms,
    parameters: dict[str, float | int | str],
) -> Plan:
    return Plan(
        name=name,
        scenario=scenario,
        mix=mix,
        load=load,
        warmup_s=terms.warmup_s,
        seconds=terms.seconds,
        seed=terms.seed,
        parameters=parameters | mix.parameters,
        most_requests=terms.most_requests,
    )
