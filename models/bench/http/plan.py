"""How everything is measured, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from models.bench.harness import Comparison, Ratio
from models.bench.http.wrk import Load
from models.machine import Machine

# Answers for each connection in a round, below which those under way at its end weigh too much: up to a twentieth.
ENOUGH = 20

OnRound = Callable[[int, int], object]


@dataclass(frozen=True)
class Plan:
    """``seconds``: of one server in one round; ``warmup``: rounds of each that are not measured."""

    rounds: int
    seconds: int
    connections: int
    seed: int
    machine: Machine
    warmup: int = 1


@dataclass(frozen=True)
class Loads:
    """A comparison of the time for a request, and what wrk found for each server: one `Load` a round, in their order.

    The time is what a server that is kept busy needs for a request, the inverse of its rate; or, with one connection,
    the median of what requests take.
    """

    comparison: Comparison
    loads: Mapping[str, tuple[Load, ...]]
    connections: int

    @property
    def enough(self) -> bool:
        """Whether every round had so many answers that its figures mean something."""
        fewest = min(load.requests for loads in self.loads.values() for load in loads)
        return fewest >= ENOUGH * self.connections


@dataclass(frozen=True)
class Finding:
    """A ratio that the project holds itself to: at least its ``goal``, or at most. ``enough``: see `Loads`."""

    text: str
    ratio: Ratio
    goal: float
    at_least: bool
    enough: bool

    @property
    def met(self) -> bool | None:
        """Whether the ratio itself, not its whole interval, is on the right side; None where it says nothing."""
        if not self.enough:
            return None
        return self.ratio.value >= self.goal if self.at_least else self.ratio.value <= self.goal
