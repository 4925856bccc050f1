"""Who is answered in time, who is refused, and when. Times as in `simulated.Engine`."""

from __future__ import annotations

import asyncio

import pytest

from service.scheduler import DeadlinePassed, QueueFull, TooLate
from tests.service.scheduler.simulated import World, on_simulated_time


@on_simulated_time
async def test_a_deadline_fires_when_it_passes_and_not_when_its_turn_comes() -> None:
    world = World(seeded=False)
    world.scheduler.seed("m", 4, {1: 0.01})  # far too optimistic
    world.submit(1, t=4)
    late = world.submit(2, t=4, within=2.0)
    with pytest.raises(DeadlinePassed):
        await late
    assert world.now == pytest.approx(2.0)
    assert world.scheduler.queued_images == 0
    await world.finish()
    assert world.batches == [(4, (1, 2))] or world.batches == [(4, (1,))]


@on_simulated_time
async def test_work_whose_deadline_has_passed_is_not_run() -> None:
    world = World()
    world.engine.slowness = 3.0  # slower than it was measured to be
    world.submit(1, 2, 3, 4, t=4)
    await asyncio.sleep(0.1)
    with pytest.raises(DeadlinePassed):
        await world.submit(5, t=4, within=30)
    assert world.now == pytest.approx(30.1)
    await world.finish()
    assert world.batches == [(4, (1, 2, 3, 4))]


@on_simulated_time
async def test_what_cannot_be_done_in_time_is_refused_at_once_and_told_when_to_come_again() -> None:
    world = World()
    world.submit(1, 2, 3, 4, t=4)  # 16.5 s
    await asyncio.sleep(0.5)
    with pytest.raises(TooLate) as refusal:
        await world.submit(5, t=2, within=10)
    assert world.now == 0.5
    # 16 s of what runs and 2.5 s of its own are 8.5 s more than 10 s; the margin for noise comes on top.
    assert refusal.value.retry_after_s == pytest.approx(8.5, abs=1.0)
    accepted = world.submit(5, t=2, within=20)
    assert (await accepted).timesteps == 2
    await world.finish()


@on_simulated_time
async def test_a_request_with_nothing_ahead_is_never_too_late_for_the_queue() -> None:
    world = World()
    with pytest.raises(DeadlinePassed):
        await world.submit(1, t=4, within=1)
    assert world.now == pytest.approx(1.0)
    await world.finish()


@on_simulated_time
async def test_what_is_predicted_to_be_late_gives_way_to_what_need_not_be() -> None:
    world = World()
    world.submit(0, t=4)
    await asyncio.sleep(0.1)
    doomed, fine = world.submit(1, within=6.5), world.submit(2, within=60)
    await asyncio.sleep(0)
    world.scheduler.seed("m", 1, {1: 4.0})  # only now it is found how long it takes
    world.engine.slowness = 4.0 / 1.5
    await asyncio.gather(doomed, fine, return_exceptions=True)
    await world.finish()
    assert isinstance(doomed.exception(), DeadlinePassed)
    assert world.batches == [(4, (0,)), (1, (2,))]


@on_simulated_time
async def test_where_all_are_predicted_to_be_late_the_first_is_run_which_mends_the_prediction() -> None:
    world = World(seeded=False)
    world.scheduler.seed("m", 1, {1: 100.0})  # the engine takes 1.5 s
    answers = [await asyncio.gather(world.submit(i, within=50), return_exceptions=True) for i in range(3)]
    assert all(not isinstance(answer, BaseException) for (answer,) in answers)
    await world.finish()


@on_simulated_time
async def test_a_batch_is_kept_small_enough_for_the_most_urgent_of_it() -> None:
    world = World()
    world.submit(0, t=1)
    await asyncio.sleep(0.1)
    urgent = world.submit(1, within=4.5)  # 1.4 s of waiting, and 2.5 s for two images but 3.5 s for three
    others = [world.submit(i) for i in (2, 3, 4)]
    await urgent
    assert world.engine.ran[1].values == (1, 2)
    await asyncio.gather(*others)
    await world.finish()


@on_simulated_time
async def test_the_queue_is_bounded_by_work_so_a_dear_budget_fills_it_sooner() -> None:
    async def accepted(t: int) -> int:
        world = World(capacity_s=20.0)
        tasks = [world.submit(i, t=t) for i in range(60)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        refused = [task for task in tasks if task.done()]
        assert all(isinstance(task.exception(), QueueFull) for task in refused)
        error = refused[0].exception()
        assert isinstance(error, QueueFull)
        assert 0 < error.retry_after_s < 30
        await world.finish()
        return len(tasks) - len(refused)

    # In batches of four, 17 take 19.5 s and 18 take 20.5 s; at T = 4 it is 16.5 s for 4 and 21 s for 5.
    assert await accepted(1) == 17
    assert await accepted(4) == 4


@on_simulated_time
async def test_an_empty_queue_takes_a_request_of_any_size() -> None:
    world = World(capacity_s=1.0)
    result = await world.submit(*range(30), t=4)
    assert len(result.outputs.logits) == 30
    await world.finish()
