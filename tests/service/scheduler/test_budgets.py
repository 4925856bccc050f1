"""What budget requests get that left it open. Times are those of `simulated.Engine`: T s an image, 0.5 s a batch."""

from __future__ import annotations

import asyncio
import math
from itertools import pairwise

import numpy as np
import pytest

from service.scheduler import TooLate
from service.scheduler.costs import CostModel
from service.scheduler.forecast import Forecast
from service.scheduler.handling import Handling
from service.scheduler.load import OfferedLoad
from service.scheduler.policy import BudgetPolicy
from service.scheduler.queue import WorkQueue
from service.scheduler.work import Request
from tests.service.scheduler.simulated import BUCKET, BUDGETS, Engine, World, on_simulated_time


@on_simulated_time
async def test_with_nothing_against_it_the_largest_budget_is_run() -> None:
    world = World()
    for within in (math.inf, 100.0):
        result = await world.submit(1, t=BUDGETS, within=within)
        assert (result.timesteps, result.reason) == (4, "largest")
    await world.finish()


@on_simulated_time
async def test_a_deadline_gets_the_largest_budget_that_meets_it() -> None:
    world = World()
    found = []
    # Alone they take 1.5, 2.5 and 4.5 s, with a margin on top for noise that is learnt to be small.
    for within in (5.2, 4.4, 3.0, 2.4):
        result = await world.submit(1, t=BUDGETS, within=within)
        found.append((result.timesteps, result.reason))
        await asyncio.sleep(1000)  # a quiet server
    assert found == [(4, "largest"), (2, "deadline"), (2, "deadline"), (1, "deadline")]
    await world.finish()


@on_simulated_time
async def test_the_budget_counts_the_time_that_was_waited() -> None:
    world = World()
    world.submit(0, t=4)
    await asyncio.sleep(0.5)
    result = await world.submit(1, t=BUDGETS, within=7.5)  # 4 s of which pass until its turn
    assert (result.timesteps, result.reason) == (2, "deadline")
    await world.finish()


@on_simulated_time
async def test_those_who_wait_make_budgets_smaller_before_anyone_is_refused() -> None:
    world = World()
    tasks = [world.submit(i, t=BUDGETS, within=40) for i in range(30)]
    results = await asyncio.gather(*tasks)
    await world.finish()
    budgets = [result.timesteps for result in results]
    assert budgets[0] == 1  # at T = 1, thirty take 33.75 s of 40
    assert {result.reason for result in results if result.timesteps < 4} <= {"load", "deadline"}
    assert world.now <= 40


@on_simulated_time
async def test_what_even_the_smallest_budget_cannot_do_in_time_is_refused() -> None:
    world = World()
    tasks = [world.submit(i, t=BUDGETS, within=40) for i in range(60)]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    await world.finish()
    refused = [result for result in results if isinstance(result, TooLate)]
    answered = [result for result in results if not isinstance(result, BaseException)]
    assert len(refused) + len(answered) == 60  # none was accepted and then late
    assert 25 <= len(answered) <= 36


@on_simulated_time
async def test_budgets_come_down_at_once_and_up_one_at_a_time() -> None:
    world = World(patience_s=30.0)
    burst = [world.submit(i, t=BUDGETS) for i in range(48)]
    await asyncio.gather(*burst)
    await world.finish()
    ran = [ran.timesteps for ran in world.engine.ran]
    assert ran[0] == 1
    steps = [BUDGETS.index(after) - BUDGETS.index(before) for before, after in pairwise(ran)]
    # Where nothing waits any more, all is allowed at once: that is the last batch.
    assert max(steps[:-1]) <= 1


@on_simulated_time
async def test_they_rise_one_at_a_time_and_only_where_there_is_twice_the_time() -> None:
    engine, costs = Engine(), CostModel(Handling(lambda: 0.0, 0.0))
    for t in BUDGETS:
        costs.seed("m", t, {n: engine.seconds(t, n) for n in (1, BUCKET)})
    policy = BudgetPolicy(costs, Forecast(costs, "degrade", 1), OfferedLoad(), "degrade")

    def chosen(spare_s: float) -> int:
        """The budget of one image where another, that takes 1.5 s itself, can be put off for so long."""
        future = asyncio.get_running_loop().create_future
        image, queue = np.zeros((1, 1, 1, 1), np.float32), WorkQueue()
        queue.add(Request(engine, "m", BUDGETS, image, 0.0, math.inf, 1e6, "normal", future()))
        queue.add(Request(engine, "m", (1,), image, 0.0, math.inf, 1.5 + 1.5 + spare_s, "low", future()))
        return policy.next_batch(queue.lanes[0], queue, 0.0).timesteps

    # At T = 2 the image takes 1 s longer than at T = 1, at T = 4 it takes 3 s longer.
    assert [chosen(spare_s) for spare_s in (100.0, 0.5, 1.5, 3.5, 5.5, 6.5)] == [4, 1, 1, 2, 2, 4]


@on_simulated_time
async def test_a_high_load_leaves_time_for_those_who_are_yet_to_come() -> None:
    world = World()
    for i in range(30):
        await world.submit(i)
    busy = await world.submit(-1, t=BUDGETS, within=6.0)  # nothing waits, and T = 4 would be in time
    assert (busy.timesteps < 4, busy.reason) == (True, "load")
    await asyncio.sleep(1000)
    quiet = await world.submit(-2, t=BUDGETS, within=6.0)
    assert (quiet.timesteps, quiet.reason) == (4, "largest")
    await world.finish()


@on_simulated_time
async def test_without_a_deadline_they_shrink_to_keep_the_servers_patience() -> None:
    async def slowest(patience_s: float) -> tuple[float, set[int]]:
        world = World(patience_s=patience_s)
        began = world.now
        results = await asyncio.gather(*(world.submit(i, t=BUDGETS) for i in range(24)))
        elapsed = world.now - began
        await world.finish()
        return elapsed, {result.timesteps for result in results}

    patient, impatient = await slowest(1e6), await slowest(20.0)
    assert patient[1] == {4}
    assert 1 in impatient[1]
    assert impatient[0] < patient[0] / 2


@on_simulated_time
async def test_the_patience_is_never_too_short_for_the_largest_budget() -> None:
    world = World(patience_s=0.001)
    assert (await world.submit(1, t=BUDGETS)).timesteps == 4
    await world.finish()


@on_simulated_time
async def test_explicit_budgets_are_never_changed_and_others_make_room_for_them() -> None:
    world = World()
    world.submit(0, t=1)
    await asyncio.sleep(0.1)
    choosing = world.submit(1, t=BUDGETS)
    fixed = world.submit(2, t=4, within=8.0)  # 1.4 s of the running one, 4.5 s of its own
    assert (await fixed).timesteps == 4
    assert (await fixed).reason == "requested"
    assert (await choosing).timesteps < 4
    await world.finish()


@on_simulated_time
async def test_where_overload_is_to_be_rejected_budgets_bend_for_nobody_else() -> None:
    world = World(overload="reject")
    results = await asyncio.gather(*(world.submit(i, t=BUDGETS, within=40) for i in range(30)), return_exceptions=True)
    await world.finish()
    answered = [result for result in results if not isinstance(result, BaseException)]
    assert all(isinstance(result, TooLate) for result in results if isinstance(result, BaseException))
    assert {result.timesteps for result in answered} == {4}
    assert len(answered) < 12


@on_simulated_time
async def test_a_choice_and_a_fixed_budget_share_a_batch_where_they_come_to_the_same() -> None:
    world = World()
    world.submit(0)
    await asyncio.sleep(0.1)
    choosing, fixed = world.submit(1, t=BUDGETS), world.submit(2, t=4)
    await asyncio.gather(choosing, fixed)
    assert world.batches[1] in [(4, (1, 2)), (4, (2, 1))]
    assert (choosing.result().reason, fixed.result().reason) == ("largest", "requested")
    await world.finish()


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_choice_among_one_is_none(concurrency: int) -> None:
    @on_simulated_time
    async def scenario() -> None:
        world = World(concurrency=concurrency)
        results = await asyncio.gather(*(world.submit(i, t=(2,)) for i in range(9)))
        assert {(result.timesteps, result.reason) for result in results} == {(2, "requested")}
        await world.finish()

    scenario()
