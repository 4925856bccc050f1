"""A scheduler on a simulated clock, with an engine whose times are written down."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.bundle import FloatArray, Outputs
from service.scheduler import BatchResult, Limits, Priority, Scheduler
from service.scheduler.forecast import Overload
from service.scheduler.runner import Run
from service.scheduler.work import Batch
from service.simulation.clock import simulate

# Every budget is answered with the images' values times the budget.
BUDGETS = (1, 2, 4)
BUCKET = 4


@dataclass(frozen=True)
class Ran:
    """One batch: when it began, at which budget, and the values of its images."""

    at: float
    timesteps: int
    values: tuple[float, ...]


class Engine:
    """Takes ``timesteps`` seconds an image and half a second a batch, on the simulated clock."""

    name = "simulated"
    batch_sizes = (1, BUCKET)

    def __init__(self) -> None:
        self.ran: list[Ran] = []
        self.failure: Exception | None = None
        self.slowness = 1.0

    def seconds(self, timesteps: int, images: int) -> float:
        return self.slowness * (timesteps * images + 0.5)

    def run(self, images: FloatArray, timesteps: int) -> Outputs:
        values = images.reshape(len(images), -1)[:, :1]
        counts = np.full((len(images), 1), float(timesteps))
        return Outputs(values * timesteps, counts, 10 * counts)

    def close(self) -> None:
        """Holds nothing."""


class Runner:
    """Runs batches on the loop's own timers."""

    def start(self, batch: Batch, *, inline: bool) -> asyncio.Future[Run]:
        loop, engine = asyncio.get_running_loop(), batch.engine
        assert isinstance(engine, Engine)
        images = np.concatenate([request.images for request in batch.requests])
        began, seconds = loop.time(), engine.seconds(batch.timesteps, batch.size)
        engine.ran.append(Ran(began, batch.timesteps, tuple(images[:, 0, 0, 0].tolist())))
        done: asyncio.Future[Run] = loop.create_future()
        if engine.failure:
            loop.call_later(seconds, done.set_exception, engine.failure)
        elif seconds < math.inf:
            loop.call_later(seconds, done.set_result, Run(began, began + seconds, engine.run(images, batch.timesteps)))
        return done

    def close(self) -> None:
        """Holds nothing."""


class World:
    """The scheduler, its engine, and what to do with them; to be made on a simulated loop."""

    def __init__(
        self,
        *,
        overload: Overload = "degrade",
        concurrency: int = 1,
        seeded: bool = True,
        busy: Callable[[], float] = lambda: 0.0,
        **limits: Any,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.engine = Engine()
        usual = {"capacity_images": 10_000, "capacity_s": 1e9, "patience_s": 20.0, "hang_s": 1e6}
        self.scheduler = Scheduler(
            Limits(**{**usual, **limits}),
            overload=overload,
            concurrency=concurrency,
            runner=Runner(),
            clock=self.loop.time,
            busy=busy,
        )
        if seeded:
            for t in BUDGETS:
                self.scheduler.seed("m", t, {n: self.engine.seconds(t, n) for n in (1, BUCKET)})

    @property
    def now(self) -> float:
        return self.loop.time()

    @property
    def batches(self) -> list[tuple[int, tuple[float, ...]]]:
        """Budgets and images of the batches, in order."""
        return [(ran.timesteps, ran.values) for ran in self.engine.ran]

    def submit(self, *values: float, **options: Any) -> asyncio.Task[BatchResult]:
        """`ask` in a task of its own."""
        return self.loop.create_task(self.ask(*values, **options))

    async def ask(
        self,
        *values: float,
        t: int | Sequence[int] = 1,
        within: float = math.inf,
        priority: Priority = "normal",
        key: str = "m",
        engine: Engine | None = None,
    ) -> BatchResult:
        """Images with these values, to be answered ``within`` so many seconds."""
        images = np.array(values, np.float32).reshape(-1, 1, 1, 1)
        return await self.scheduler.submit(
            engine or self.engine,
            key,
            [t] if isinstance(t, int) else t,
            images,
            deadline=self.now + within,
            priority=priority,
        )

    async def finish(self) -> None:
        """Let everything end that was accepted."""
        await asyncio.sleep(0)  # what was submitted in this very turn has yet to begin
        await asyncio.sleep(0)
        await self.scheduler.close()
        await asyncio.sleep(0)


def on_simulated_time(scenario: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test on a simulated loop, where no callback may fail."""

    def test() -> None:
        complaints: list[dict[str, Any]] = []

        async def guarded() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            await scenario()

        simulate(guarded())
        assert not complaints

    test.__name__, test.__doc__ = scenario.__name__, scenario.__doc__
    return test
