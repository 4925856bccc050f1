"""Loads, ways of choosing budgets, and the bound that none of them can pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from service.scheduler.forecast import Overload
from service.simulation.engine import Costs
from service.simulation.traffic import Http, Outcome, Traffic, run

AUTO = "auto"
BLIND = "auto, HTTP unseen"
BOUND = "oracle"


@dataclass(frozen=True)
class Way:
    """A way of choosing budgets: the scheduler's among all of them, or always the same."""

    name: str
    budgets: tuple[int, ...]
    overload: Overload = "degrade"
    sees_http: bool = True


@dataclass(frozen=True)
class Bound:
    """What an oracle would reach: the share of requests answered, and how often those answers are right.

    It knows the load, fills every batch, and lets nobody wait; it has the most right answers a second that these costs
    allow. With two limits, the engine's time and the requests there are, a mix of two budgets is enough for that.
    """

    in_time: float
    accuracy: float


@dataclass(frozen=True)
class Point:
    """One load, as a share of the capacity at the largest budget, and what each way made of it."""

    load: float
    outcomes: Mapping[str, Outcome]
    bound: Bound


@dataclass(frozen=True)
class Study:
    """What was simulated. ``deadline`` is in times that the largest budget takes for one image.

    ``http_s`` is what HTTP takes of the engine's core for each request, 0 where it is left out.
    """

    costs: Costs
    accuracies: Mapping[int, float]
    model: str
    deadline: float
    requests: int
    seed: int
    points: Sequence[Point]
    http_s: float = 0.0

    @property
    def deadline_s(self) -> float:
        """The deadline in seconds."""
        return self.deadline * (self.costs.of(self.costs.budgets[-1], 1) + self.http_s)

    @property
    def capacity(self) -> float:
        """Images a second at the largest budget."""
        return capacity(self.costs, self.costs.budgets[-1], self.http_s)


def capacity(costs: Costs, timesteps: int, http_s: float) -> float:
    """Images a second of a core that does nothing else."""
    return 1 / (1 / costs.capacity(timesteps) + http_s)


def ways(budgets: Sequence[int], http_s: float = 0.0) -> list[Way]:
    """Each budget for itself, and the scheduler's choice; with HTTP, that of one that does not know of it too."""
    fixed = [Way(f"T = {t}", (t,)) for t in budgets]
    blind = [Way(BLIND, tuple(budgets), sees_http=False)] if http_s else []
    return [*fixed, *blind, Way(AUTO, tuple(budgets))]


def study(
    costs: Costs,
    accuracies: Mapping[int, float],
    model: str,
    loads: Sequence[float],
    *,
    deadline: float = 5.0,
    requests: int = 5000,
    seed: int = 1,
    http_s: float = 0.0,
    on_run: Callable[[int], object] = lambda runs: None,
) -> Study:
    """Simulate every way at every load.

    Args:
        costs: what batches take.
        accuracies: how often each of the budgets is right; those without a measured accuracy are left out.
        model: where the accuracies come from.
        loads: shares of the capacity at the largest budget.
        deadline: see `Study`.
        requests: a run.
        seed: of arrivals and of batches' times, the same for all ways.
        http_s: see `Study`.
        on_run: called with 1 after each run.

    Raises ValueError where no budget has both costs and an accuracy.
    """
    budgets = tuple(t for t in costs.budgets if t in accuracies)
    if not budgets:
        raise ValueError(f"no budget has both: costs for {costs.budgets}, accuracies for {tuple(accuracies)}")
    kept = costs.model_copy(update={"seconds": {t: costs.seconds[t] for t in budgets}})
    begun = Study(kept, {t: accuracies[t] for t in budgets}, model, deadline, requests, seed, (), http_s)

    def points() -> Iterator[Point]:
        for load in loads:
            rate = load * begun.capacity
            outcomes = {}
            for way in ways(budgets, http_s):
                traffic = Traffic(rate, requests, begun.deadline_s, seed, Http(http_s, way.sees_http))
                outcomes[way.name] = run(traffic, way.budgets, kept, accuracies, way.overload)
                on_run(1)
            yield Point(load, outcomes, bound(rate, kept, accuracies, http_s))

    return replace(begun, points=tuple(points()))


def bound(rate: float, costs: Costs, accuracies: Mapping[int, float], http_s: float = 0.0) -> Bound:
    """The `Bound` at so many requests a second."""
    best, answered = 0.0, 0.0
    for served in _mixes(rate, costs, http_s):
        right = sum(images * accuracies[t] for t, images in served.items())
        if right > best:
            best, answered = right, sum(served.values())
    return Bound(answered / rate, best / answered if answered else 0.0)


def _mixes(rate: float, costs: Costs, http_s: float) -> Iterator[Mapping[int, float]]:
    """Images a second at each budget, wherever one of the two limits is reached, or both: the corners."""
    capacities = {t: capacity(costs, t, http_s) for t in costs.budgets}
    for t, most in capacities.items():
        yield {t: min(rate, most)}
    for small, large in combinations(costs.budgets, 2):
        if capacities[large] < rate < capacities[small]:
            # large + small = rate, large / capacity + small / capacity = 1
            time = 1 / capacities[large] - 1 / capacities[small]
            images = (1 - rate / capacities[small]) / time
            yield {large: images, small: rate - images}
