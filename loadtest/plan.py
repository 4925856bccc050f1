"""A run as it is planned: what is asked, how much of it and for how long."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from loadtest.arrivals import Arrivals, Step
from loadtest.asks import Mix
from loadtest.errors import LoadTestError


@dataclass(frozen=True)
class Closed:
    """Clients that each wait for their answer before they ask again."""

    concurrency: int

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise LoadTestError(f"there is at least one client, not {self.concurrency}")


@dataclass(frozen=True)
class Open:
    """Requests that wait for no answer, at rates that hold for a time each; the first step is the warm-up's too."""

    steps: tuple[Step, ...]
    arrivals: Arrivals = "poisson"


@dataclass(frozen=True)
class Replay:
    """Requests at times that somebody wrote down, in seconds from the start, each with its way in the mix."""

    times: tuple[float, ...]
    ways: tuple[int, ...]


@dataclass(frozen=True)
class Limit:
    """A latency, and how many requests that were to be counted may miss it before the rest of the run is pointless."""

    seconds: float
    misses: int


@dataclass(frozen=True)
class Plan:
    """One run.

    Args:
        name, scenario, parameters: as a `loadtest.record.Run` has them.
        mix: what is asked.
        load: how much of it.
        warmup_s, seconds: that are not counted, and that are.
        seed: of everything that is drawn.
        most_requests: a bound beside the time, warm-up included.
        limit: ends the run early.
        apart: whether each way of the mix is a run of its own in the record.
    """

    name: str
    scenario: str
    mix: Mix
    load: Closed | Open | Replay
    warmup_s: float
    seconds: float
    seed: int
    parameters: Mapping[str, float | int | str] = field(default_factory=dict)
    most_requests: int | None = None
    limit: Limit | None = None
    apart: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.warmup_s < math.inf and 0 < self.seconds < math.inf):
            raise LoadTestError(f"a run takes seconds above 0, not {self.seconds:g} after {self.warmup_s:g} of warm-up")

    @property
    def until_s(self) -> float:
        """When it ends, from its start."""
        return self.warmup_s + self.seconds

    @property
    def offered_rate(self) -> float | None:
        """Requests a second that are to be sent while they are counted; None in a closed loop."""
        if isinstance(self.load, Closed):
            return None
        if isinstance(self.load, Replay):
            return sum(self.warmup_s <= time < self.until_s for time in self.load.times) / self.seconds
        return sum(step.rate * step.seconds for step in self.load.steps) / sum(s.seconds for s in self.load.steps)
