"""What an image takes of the event loop beside the engine, measured on clocks that are written down."""

from __future__ import annotations

import asyncio

import pytest

from service.scheduler import DeadlinePassed, QueueFull, TooLate
from service.scheduler.costs import CostModel
from service.scheduler.forecast import Forecast
from service.scheduler.handling import Handling
from service.simulation.clock import SimulatedLoop
from tests.service.scheduler.simulated import BUDGETS, World, on_simulated_time


class Loop:
    """An event loop's clocks, and what it takes to handle images."""

    def __init__(self) -> None:
        self.now = self.busy_s = 0.0
        self.handling = Handling(lambda: self.busy_s, 0.0)

    def work(self, images: int, seconds: float, *, engine_s: float = 0.0, idle_s: float = 0.0) -> float:
        """Answer so many images in so many busy seconds and some of the engine on the loop, and be idle as well."""
        self.handling.ran_inline(engine_s)
        self.busy_s += seconds + engine_s
        self.now += seconds + engine_s + idle_s
        self.handling.answered(images, self.now)
        return self.handling.image_s


def test_it_is_what_a_busy_loop_spends_beside_the_engine_on_each_answer() -> None:
    loop = Loop()
    assert loop.work(100, 0.1, engine_s=0.05) == pytest.approx(0.001)
    assert loop.work(50, 0.1, engine_s=0.1) < 0.002
    for _ in range(40):
        loop.work(50, 0.1)
    assert loop.handling.image_s == pytest.approx(0.002, rel=0.01)


def test_nothing_is_known_of_a_loop_that_was_never_busy() -> None:
    loop = Loop()
    assert loop.work(10, 0.01, idle_s=0.5) == 0


def test_a_loop_that_is_idle_can_only_lower_it() -> None:
    loop = Loop()
    loop.work(20, 0.2)  # 10 ms each, of which refusals were the most
    assert loop.work(10, 0.2, idle_s=0.6) == pytest.approx(0.01)  # its own work, for the most part
    assert loop.work(100, 0.1, idle_s=0.9) == pytest.approx(0.001)
    loop.work(100, 0.3)
    assert loop.handling.image_s == pytest.approx((0.8 * 0.1 + 0.3) / (0.8 * 100 + 100))


def test_a_few_answers_are_not_judged() -> None:
    loop = Loop()
    assert loop.work(7, 1.0) == 0  # something else had the loop
    assert loop.work(1, 0.0, idle_s=10.0) == 0  # and taken together it was idle
    assert loop.work(100, 0.05) == 0  # too short
    assert loop.work(100, 0.05) == pytest.approx(0.0005)


def test_an_engine_that_took_more_than_the_loop_noticed_leaves_nothing() -> None:
    loop = Loop()
    loop.handling.ran_inline(1.0)
    assert loop.work(10, 0.2) == 0


def costs(image_s: float) -> CostModel:
    loop = Loop()
    loop.work(100, 100 * max(image_s, 0.001))
    found = CostModel(loop.handling if image_s else Handling(lambda: 0.0, 0.0))
    for t in BUDGETS:
        found.seed("m", t, {1: t + 0.5, 4: 4 * t + 0.5})
    return found


def test_predictions_are_of_the_engine_and_of_handling() -> None:
    model = costs(2.0)
    assert model.engine_s("m", 2, 3, 2) == pytest.approx(7.0)
    assert model.seconds("m", 2, 3, 2) == pytest.approx(13.0)
    assert model.at_most("m", 2, 3) == pytest.approx(model.engine_at_most("m", 2, 3) + 6.0)
    assert [model.batch_within("m", 2, seconds, 4) for seconds in (0.1, 4.5, 12.5, 16.5, 99.0)] == [1, 1, 3, 4, 4]
    assert [costs(0.0).batch_within("m", 2, seconds, 4) for seconds in (4.5, 6.5)] == [2, 3]


def test_batches_run_at_once_and_there_is_one_event_loop() -> None:
    found = Forecast(costs(2.0), "degrade", 2)
    assert found.work_s("m", 1, 4) == pytest.approx(4.5 / 2 + 8.0)


@on_simulated_time
async def test_a_request_that_would_be_refused_is_before_it_was_decoded() -> None:
    world = World(capacity_images=4)
    shape = (1, 1, 1, 1)
    world.scheduler.check(world.engine, "m", BUDGETS, shape, deadline=2.0)
    tasks = [world.submit(i, t=1) for i in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(TooLate):
        world.scheduler.check(world.engine, "m", BUDGETS, shape, deadline=world.now + 2.0)
    world.scheduler.check(world.engine, "m", BUDGETS, shape, deadline=world.now + 100.0)
    await asyncio.sleep(0.1)  # they run
    tasks += [world.submit(i, t=1) for i in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        world.scheduler.check(world.engine, "m", BUDGETS, shape)
    with pytest.raises(DeadlinePassed):
        world.scheduler.check(world.engine, "m", BUDGETS, shape, deadline=world.now)
    assert len(await asyncio.gather(*tasks)) == 7
    await world.finish()


@on_simulated_time
async def test_what_was_refused_early_is_part_of_the_load_as_well() -> None:
    async def chosen(refused: int) -> int:
        world = World(capacity_images=1)
        await world.submit(0, t=1)
        task = world.submit(1, t=1, within=1000.0)
        await asyncio.sleep(0)
        for _ in range(refused):
            with pytest.raises(QueueFull):
                world.scheduler.check(world.engine, "m", (1,), (1, 1, 1, 1))
        await task
        result = await world.submit(2, t=BUDGETS, within=9.0)
        await world.finish()
        return result.timesteps

    assert await chosen(100) < await chosen(0) == 4


@on_simulated_time
async def test_answers_that_are_yet_to_be_written_are_time_that_has_to_pass() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedLoop)
    world = World(busy=lambda: loop.busy_s)
    late: list[float] = []

    async def ask(value: int) -> None:
        await world.ask(value, t=1)
        with_others = world.scheduler._running_s(world.now)
        loop.spend(2.0)
        late.append(with_others)

    for _ in range(6):
        await asyncio.gather(ask(0), ask(1), ask(2), ask(3))
    assert world.scheduler._handling.image_s == pytest.approx(2.0, rel=0.1)
    # The first of four has the other three before it that are not written, the last has none.
    assert late[-4] == pytest.approx(3 * world.scheduler._handling.image_s)
    assert late[-1] == 0
    await world.finish()
