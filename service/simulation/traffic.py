"""Requests of one image each at random times, and what became of them."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from service.scheduler import BatchResult, DeadlinePassed, Limits, Refused, Scheduler
from service.scheduler.forecast import Overload
from service.simulation.clock import simulate
from service.simulation.engine import Costs, NoEngine, SimulatedRunner, seeds

_IMAGE = np.zeros((1, 1), np.float32)
_KEY = "simulated"


@dataclass(frozen=True)
class Traffic:
    """Poisson arrivals of ``requests`` at ``rate`` a second, each with a deadline in seconds after its arrival.

    What arrives in the first tenth is served and not counted: by then the queue is as long as it usually is.
    """

    rate: float
    requests: int
    deadline_s: float
    seed: int = 1


@dataclass(frozen=True)
class Outcome:
    """What became of the requests that were counted.

    in_time, late, refused: shares of them; answered before the deadline, accepted and not answered by then, 429.
    accuracy: of the answers in time, expected from how often each budget is right.
    latencies_s: of the answers in time, ascending; deadline_s is what they had to keep.
    budgets: how many answers in time came from each budget.
    """

    in_time: float
    late: float
    refused: float
    accuracy: float
    latencies_s: Sequence[float]
    deadline_s: float
    budgets: Mapping[int, int]

    @property
    def p99_s(self) -> float:
        """The 99th percentile of the latency of answers in time; NaN where there are none."""
        return float(np.quantile(self.latencies_s, 0.99)) if self.latencies_s else math.nan

    @property
    def p50_s(self) -> float:
        """Its median, likewise."""
        return float(np.quantile(self.latencies_s, 0.5)) if self.latencies_s else math.nan


def run(
    traffic: Traffic,
    budgets: Sequence[int],
    costs: Costs,
    accuracies: Mapping[int, float],
    overload: Overload = "degrade",
) -> Outcome:
    """Let traffic arrive at a scheduler that may choose among these budgets."""
    return simulate(_run(traffic, budgets, costs, accuracies, overload))


async def _run(
    traffic: Traffic,
    budgets: Sequence[int],
    costs: Costs,
    accuracies: Mapping[int, float],
    overload: Overload,
) -> Outcome:
    loop = asyncio.get_running_loop()
    engine = NoEngine(tuple(sorted(costs.seconds[costs.budgets[0]])))
    runner = SimulatedRunner(costs, traffic.seed)
    scheduler = Scheduler(Limits(hang_s=math.inf), overload=overload, runner=runner, clock=loop.time)
    for timesteps, seconds in seeds(costs).items():
        scheduler.seed(_KEY, timesteps, seconds)

    async def ask() -> tuple[float, BatchResult] | Refused | DeadlinePassed:
        arrived = loop.time()
        try:
            result = await scheduler.submit(engine, _KEY, budgets, _IMAGE, deadline=arrived + traffic.deadline_s)
        except (Refused, DeadlinePassed) as error:
            return error
        return loop.time() - arrived, result

    gaps = random.Random(traffic.seed)
    tasks = []
    for _ in range(traffic.requests):
        await asyncio.sleep(gaps.expovariate(traffic.rate))
        tasks.append(loop.create_task(ask()))
    ended = (await asyncio.gather(*tasks))[traffic.requests // 10 :]
    await scheduler.close()
    answers = [result for result in ended if isinstance(result, tuple)]
    counts = Counter(result.timesteps for _, result in answers)
    right = sum(count * accuracies[timesteps] for timesteps, count in counts.items())
    return Outcome(
        in_time=len(answers) / len(ended),
        late=sum(isinstance(result, DeadlinePassed) for result in ended) / len(ended),
        refused=sum(isinstance(result, Refused) for result in ended) / len(ended),
        accuracy=right / len(answers) if answers else math.nan,
        latencies_s=sorted(latency for latency, _ in answers),
        deadline_s=traffic.deadline_s,
        budgets=dict(counts),
    )
