"""Whose turn it is. Times are those of `simulated.Engine`: T seconds an image and half a second a batch."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from service.scheduler import Priority
from tests.service.scheduler.simulated import BUCKET, World, on_simulated_time


@on_simulated_time
async def test_a_rare_large_budget_is_not_starved_by_a_flood_of_small_ones() -> None:
    world = World()
    flood = [world.submit(i, t=1) for i in range(100)]
    await asyncio.sleep(1)  # the first batch of the flood runs
    rare = world.submit(-1, t=4)
    await rare
    # At most the batch that ran, one more of the flood, and its own.
    assert world.now <= 2 * world.engine.seconds(1, BUCKET) + world.engine.seconds(4, 1)
    assert sum(task.done() for task in flood) <= 2 * BUCKET
    await world.finish()


@on_simulated_time
async def test_small_budgets_are_not_starved_by_a_flood_of_large_ones() -> None:
    world = World()
    for i in range(100):
        world.submit(i, t=4)
    await asyncio.sleep(1)
    await world.submit(-1, t=1)
    assert world.now <= 2 * world.engine.seconds(4, BUCKET) + world.engine.seconds(1, 1)
    await world.finish()


@on_simulated_time
async def test_models_share_the_engine_in_time_whatever_their_requests_cost() -> None:
    world = World()
    for t in (1, 4):
        world.scheduler.seed(f"model {t}", t, {n: world.engine.seconds(t, n) for n in (1, BUCKET)})
    for i in range(400):
        world.submit(i, t=1, key="model 1")
        world.submit(i, t=4, key="model 4")
    await asyncio.sleep(400)
    spent: Counter[int] = Counter()
    for ran in world.engine.ran:
        spent[ran.timesteps] += round(2 * world.engine.seconds(ran.timesteps, len(ran.values)))
    assert spent[1] == pytest.approx(spent[4], rel=0.1)
    await world.finish()


@on_simulated_time
async def test_a_kind_that_was_away_has_no_claim_on_the_time_it_did_not_use() -> None:
    world = World()
    for i in range(40):
        world.submit(i, t=1)
    await asyncio.sleep(30)
    for i in range(40):
        world.submit(i, t=2)
    before = len(world.engine.ran)
    await asyncio.sleep(40)
    kinds = [ran.timesteps for ran in world.engine.ran[before : before + 6]]
    assert 1 in kinds[:3]
    await world.finish()


@on_simulated_time
async def test_high_priority_goes_ahead_and_low_priority_still_gets_its_turn() -> None:
    world = World()
    tasks: dict[Priority, list[asyncio.Task[object]]] = {}
    for priority in ("low", "normal", "high"):
        # Kinds that cannot share a batch.
        key = f"for {priority}"
        world.scheduler.seed(key, 1, {n: world.engine.seconds(1, n) for n in (1, BUCKET)})
        tasks[priority] = [world.submit(i, key=key, priority=priority) for i in range(200)]
    await asyncio.sleep(150)
    done = {priority: sum(task.done() for task in tasks[priority]) for priority in tasks}
    assert done["high"] > 7 * done["normal"] > 7 * done["low"]
    await asyncio.sleep(250)
    assert any(task.done() for task in tasks["low"])
    assert not all(task.done() for task in tasks["normal"])
    await world.finish()


@on_simulated_time
async def test_priorities_of_one_model_and_budget_fill_one_batch() -> None:
    world = World()
    world.submit(-1)
    await asyncio.sleep(0.1)
    world.submit(1, priority="low")
    world.submit(2, priority="normal")
    world.submit(3, priority="high")
    await world.finish()
    assert world.batches == [(1, (-1,)), (1, (3, 1, 2))]  # the urgent one leads it


@on_simulated_time
async def test_requests_that_wait_for_company_go_when_the_batch_is_full_or_the_delay_is_over() -> None:
    world = World(max_delay_s=3.0)
    first = world.submit(1)
    await asyncio.sleep(1)
    second = world.submit(2)
    await first
    await second
    assert world.engine.ran[0].at == 3.0
    assert world.engine.ran[0].values == (1, 2)
    began = world.now
    for i in range(BUCKET):
        world.submit(i)
    await asyncio.sleep(0.1)
    assert world.engine.ran[1].at == began
    await world.finish()


@on_simulated_time
async def test_nothing_waits_for_company_past_its_deadline_or_a_shutdown() -> None:
    world = World(max_delay_s=30.0)
    await world.submit(1, within=10)
    assert world.now <= 10
    waiting = world.submit(2)
    await asyncio.sleep(1)
    before = world.now
    await world.finish()
    assert waiting.done()
    assert world.now == pytest.approx(before + world.engine.seconds(1, 1))
