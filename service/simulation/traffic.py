"""Requests of one image each at random times, and what became of them."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from service.lag import Reads
from service.scheduler import BatchResult, DeadlinePassed, Limits, Refused, Scheduler
from service.scheduler.forecast import Overload
from service.simulation.clock import SimulatedLoop, simulate
from service.simulation.engine import Costs, NoEngine, SimulatedRunner, seeds

_IMAGE = np.zeros((1, 1), np.float32)
_KEY = "simulated"
# Times are sums of floating-point numbers.
_ROUNDING_S = 1e-9


@dataclass(frozen=True)
class Http:
    """What HTTP takes of the core that the engine runs on, and whether the scheduler is told.

    A third of a request's ``seconds`` goes into reading it, one into decoding its picture, one into its answer. One
    that is refused is not decoded. Whoever sends while the core is busy waits to be read.
    """

    seconds: float
    seen: bool = True


NO_HTTP = Http(0.0)


@dataclass(frozen=True)
class Traffic:
    """Poisson arrivals of ``requests`` at ``rate`` a second, each with a deadline in seconds after its arrival.

    What arrives in the first tenth is served and not counted: by then the queue is as long as it usually is.
    """

    rate: float
    requests: int
    deadline_s: float
    seed: int = 1
    http: Http = NO_HTTP


@dataclass(frozen=True)
class Outcome:
    """What became of the requests that were counted.

    in_time, late, refused: shares of them; answered before the deadline as whoever sent it has it, accepted and not
        answered by then, 429.
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
    assert isinstance(loop, SimulatedLoop)
    http = traffic.http
    part_s = http.seconds / 3
    engine = NoEngine(tuple(sorted(costs.seconds[costs.budgets[0]])))
    runner = SimulatedRunner(costs, traffic.seed)
    busy = (lambda: loop.busy_s) if http.seen else (lambda: 0.0)
    scheduler = Scheduler(
        # On one core everything takes turns.
        Limits(hang_s=math.inf, inline_s=math.inf if http.seconds else 0.0),
        overload=overload,
        runner=runner,
        clock=loop.time,
        busy=busy,
    )
    for timesteps, seconds in seeds(costs).items():
        scheduler.seed(_KEY, timesteps, seconds)

    async def ask(sent: float, deadline: float) -> tuple[float, BatchResult] | Refused | DeadlinePassed:
        ended: BatchResult | Refused | DeadlinePassed
        try:
            scheduler.check(engine, _KEY, budgets, _IMAGE.shape, deadline=deadline)
            loop.spend(part_s)
            ended = await scheduler.submit(engine, _KEY, budgets, _IMAGE, deadline=deadline)
        except (Refused, DeadlinePassed) as error:
            ended = error
        loop.spend(part_s)
        latency = loop.time() - sent
        if not isinstance(ended, BatchResult):
            return ended
        return (latency, ended) if latency <= traffic.deadline_s + _ROUNDING_S else DeadlinePassed("unseen")

    reads = Reads(loop.time, busy)

    def read(sent: float) -> None:
        deadline = reads.since() + traffic.deadline_s
        loop.spend(part_s)
        tasks.append(loop.create_task(ask(sent, deadline)))
        if len(tasks) == traffic.requests:
            all_read.set()

    tasks: list[asyncio.Task[tuple[float, BatchResult] | Refused | DeadlinePassed]] = []
    all_read = asyncio.Event()
    gaps = random.Random(traffic.seed)
    for sent in accumulate(gaps.expovariate(traffic.rate) for _ in range(traffic.requests)):
        loop.call_at(sent, read, sent)
    await all_read.wait()
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
