"""When requests are to be sent: schedules that are drawn before anything is sent, and wait for no answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from loadtest.errors import LoadTestError

Times = npt.NDArray[np.float64]
Arrivals = Literal["poisson", "constant"]
# A schedule takes 8 bytes a request, and the client a hundred more for what came of it.
MOST_REQUESTS = 20_000_000


@dataclass(frozen=True)
class Step:
    """A rate, in requests a second, that holds for so many seconds."""

    rate: float
    seconds: float

    def __post_init__(self) -> None:
        if not (0 < self.rate < math.inf and 0 < self.seconds < math.inf):
            raise LoadTestError(f"a rate and its seconds are numbers above 0, not {self.rate:g} and {self.seconds:g}")


def schedule(steps: Sequence[Step], arrivals: Arrivals, seed: int) -> Times:
    """Seconds from the start at which requests are to be sent, ascending.

    `poisson`: independent clients; times between requests are exponential. `constant`: one every 1/rate seconds, the
    first half of that after the start. Raises LoadTestError for more than `MOST_REQUESTS`.
    """
    expected = sum(step.rate * step.seconds for step in steps)
    if expected > MOST_REQUESTS:
        raise LoadTestError(f"{expected:,.0f} requests are too many for one run; at most {MOST_REQUESTS:,}")
    generator = np.random.default_rng(seed)
    pieces: list[Times] = []
    start = 0.0
    for step in steps:
        if arrivals == "poisson":
            # Given their number, the times of a Poisson process are independent and uniform.
            count = int(generator.poisson(step.rate * step.seconds))
            times: Times = np.sort(generator.uniform(0.0, step.seconds, count))
        else:
            count = round(step.rate * step.seconds)
            times = np.linspace(0.0, count / step.rate, count, endpoint=False) + 0.5 / step.rate
        pieces.append(start + times)
        start += step.seconds
    return np.concatenate(pieces) if pieces else np.empty(0)


def share(times: Times, process: int, processes: int) -> Times:
    """What one of several client processes sends of a schedule: every so-manieth request."""
    return times[process::processes]
