"""Short batches run on the event loop, others in a thread."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from models.bundle import FloatArray, Outputs
from service.engines import EngineError
from service.scheduler import Limits, Scheduler
from service.scheduler.runner import Run
from service.scheduler.work import Batch
from service.simulation.clock import SimulatedLoop, simulate
from service.simulation.engine import Costs, NoEngine, SimulatedRunner


class Engine:
    """Says in which thread it ran."""

    name = "engine"
    batch_sizes = (1, 4)

    def __init__(self, work: Callable[[], None] = lambda: None) -> None:
        self.threads: list[bool] = []
        self.work = work

    def run(self, images: FloatArray, timesteps: int) -> Outputs:
        self.threads.append(threading.current_thread() is threading.main_thread())
        self.work()
        counts = np.zeros((len(images), 1))
        return Outputs(np.zeros((len(images), 2), np.float32), counts, counts)

    def close(self) -> None:
        """Nothing to close."""


def classify(engine: Engine, seeds: dict[int, float] | None, limits: Limits, times: int = 1) -> None:
    async def run() -> None:
        scheduler = Scheduler(limits)
        if seeds:
            scheduler.seed("m", 1, seeds)
        try:
            for _ in range(times):
                await scheduler.submit(engine, "m", [1], np.zeros((1, 1), np.float32))
        finally:
            await scheduler.close()

    asyncio.run(run())


QUICK, SLOW = {1: 0.0001, 4: 0.0002}, {1: 0.01, 4: 0.02}


@pytest.mark.parametrize(
    ("seeds", "inline_s", "on_the_loop"),
    [(QUICK, 0.001, True), (SLOW, 0.001, False), (QUICK, 0.0, False), (None, 0.001, False)],
    ids=["quick", "slow", "never", "unknown"],
)
def test_only_what_is_known_to_be_quick_runs_on_the_event_loop(
    seeds: dict[int, float] | None, inline_s: float, on_the_loop: bool
) -> None:
    engine = Engine()
    classify(engine, seeds, Limits(inline_s=inline_s))
    assert engine.threads == [on_the_loop]


def test_a_model_that_was_never_timed_is_not_taken_for_another_that_was() -> None:
    engine = Engine()

    async def run() -> None:
        scheduler = Scheduler(Limits(inline_s=0.001))
        scheduler.seed("other", 1, QUICK)
        await scheduler.submit(engine, "m", [1], np.zeros((1, 1), np.float32))
        await scheduler.close()

    asyncio.run(run())
    assert engine.threads == [False]


def test_what_turns_out_to_be_slow_goes_to_a_thread() -> None:
    engine = Engine(lambda: time.sleep(0.005))
    classify(engine, QUICK, Limits(inline_s=0.001), times=30)
    assert engine.threads[0]
    assert not engine.threads[-1]


def test_requests_of_one_turn_of_the_loop_still_share_a_batch() -> None:
    engine = Engine()

    async def run() -> list[int]:
        scheduler = Scheduler(Limits(inline_s=0.001))
        scheduler.seed("m", 1, QUICK)
        image = np.zeros((1, 1), np.float32)
        results = await asyncio.gather(*(scheduler.submit(engine, "m", [1], image) for _ in range(4)))
        await scheduler.close()
        return [result.batch_size for result in results]

    assert asyncio.run(run()) == [4] * 4
    assert engine.threads == [True]


def test_an_error_on_the_loop_fails_its_batch_alone() -> None:
    def fail() -> None:
        if len(engine.threads) == 1:
            raise StopIteration

    engine = Engine(fail)

    async def run() -> None:
        scheduler = Scheduler(Limits(inline_s=0.001))
        scheduler.seed("m", 1, QUICK)
        image = np.zeros((1, 1), np.float32)
        with pytest.raises(EngineError, match="StopIteration"):
            await scheduler.submit(engine, "m", [1], image)
        assert (await scheduler.submit(engine, "m", [1], image)).batch_size == 1
        await scheduler.close()

    asyncio.run(run())
    assert engine.threads == [True, True]


def test_a_batch_that_hangs_on_the_loop_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine(lambda: time.sleep(0.4))
    with caplog.at_level(logging.ERROR, "lmht"):
        classify(engine, QUICK, Limits(inline_s=0.001, hang_s=0.1))
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("engine has not come back from 1 images at T = 1; it has the event loop")


def test_the_engines_time_on_the_loop_is_none_of_handling_and_handling_sends_no_batch_to_a_thread() -> None:
    async def run() -> tuple[float, list[bool]]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        noted: list[bool] = []

        class Noting(SimulatedRunner):
            def start(self, batch: Batch, *, inline: bool) -> asyncio.Future[Run]:
                noted.append(inline)
                return super().start(batch, inline=inline)

        costs = Costs(network="", seconds={1: {1: 0.1}}, variation=0.0, machine={})
        scheduler = Scheduler(Limits(inline_s=0.5), runner=Noting(costs, 1), clock=loop.time, busy=lambda: loop.busy_s)
        scheduler.seed("m", 1, {1: 0.1})
        for _ in range(40):
            await scheduler.submit(NoEngine((1,)), "m", [1], np.zeros((1, 1), np.float32))
            loop.spend(2.0)
        await scheduler.close()
        return scheduler._handling.image_s, noted

    image_s, inline = simulate(run())
    assert image_s == pytest.approx(2.0, rel=0.05)
    assert inline == [True] * 40
