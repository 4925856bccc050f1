"""Engines that fail or hang, models that go, and the end; then all of it at random. Times as in `simulated.Engine`."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engines import EngineError
from service.scheduler import BatchResult, Closed, DeadlinePassed, QueueFull, Stalled, TooLate
from tests.service.scheduler.simulated import BUDGETS, Engine, World, on_simulated_time


@on_simulated_time
async def test_an_engine_that_fails_fails_its_batch_and_the_next_batch_runs() -> None:
    world = World()
    world.engine.failure = EngineError("broken")
    failed = world.submit(1)
    await asyncio.sleep(0.1)
    world.engine.failure = None
    fine = world.submit(2)
    with pytest.raises(EngineError, match="broken"):
        await failed
    assert (await fine).timesteps == 1
    await world.finish()


def test_an_engine_that_hangs_is_reported_and_nothing_waits_behind_it(caplog: pytest.LogCaptureFixture) -> None:
    @on_simulated_time
    async def scenario() -> None:
        world = World(hang_s=100.0)
        world.engine.slowness = math.inf
        running = world.submit(1)
        await asyncio.sleep(1)
        waiting = world.submit(2)
        await asyncio.sleep(98)
        assert world.scheduler.stalled is None
        await asyncio.sleep(2)
        assert "simulated has not come back" in (world.scheduler.stalled or "")
        assert isinstance(running.exception(), EngineError)
        assert isinstance(waiting.exception(), Stalled)
        with pytest.raises(Stalled):
            await world.submit(3)
        assert world.scheduler.queued_images == 0

    scenario()
    assert "has not come back" in caplog.text


def test_an_engine_that_comes_back_after_all_serves_again(caplog: pytest.LogCaptureFixture) -> None:
    @on_simulated_time
    async def scenario() -> None:
        world = World(hang_s=10.0)
        world.engine.slowness = 20.0
        running = world.submit(1)
        await asyncio.sleep(11)
        world.engine.slowness = 1.0
        assert isinstance(running.exception(), EngineError)
        assert world.scheduler.stalled
        await asyncio.sleep(20)
        assert world.scheduler.stalled is None
        assert (await world.submit(2)).timesteps == 1
        await world.finish()

    with caplog.at_level(logging.WARNING, "lmht"):
        scenario()
    assert "come back after all" in caplog.text


@on_simulated_time
async def test_with_a_second_place_to_run_others_go_on_while_one_hangs() -> None:
    world = World(hang_s=10.0, concurrency=2)
    stuck = Engine()
    stuck.slowness = math.inf
    hung = world.submit(1, engine=stuck, key="stuck")
    await asyncio.sleep(11)
    assert world.scheduler.stalled
    assert isinstance(hung.exception(), EngineError)
    assert (await world.submit(2)).timesteps == 1


@on_simulated_time
async def test_a_model_can_be_let_go_once_nothing_of_it_waits_or_runs() -> None:
    world, other = World(), Engine()
    mine = [world.submit(i, engine=other, key="other") for i in range(6)]
    more = [world.submit(i) for i in range(40)]
    await asyncio.sleep(0.1)
    await asyncio.wait_for(world.scheduler.drained(other), 1000)
    assert all(task.done() for task in mine)
    assert not all(task.done() for task in more)
    await world.scheduler.drained(Engine())  # one that never ran
    await world.finish()


@on_simulated_time
async def test_a_shutdown_in_the_middle_of_a_batch_answers_it_and_what_waits() -> None:
    world = World()
    tasks = [world.submit(i, t=BUDGETS) for i in range(9)]
    await asyncio.sleep(1)
    closing = world.loop.create_task(world.scheduler.close())
    await asyncio.sleep(0)
    with pytest.raises(Closed):
        await world.submit(10)
    await closing
    assert [len(task.result().outputs.logits) for task in tasks] == [1] * 9


REQUEST = st.tuples(
    st.just("submit"),
    st.integers(1, 6),
    st.sampled_from([(1,), (4,), BUDGETS, (2, 4)]),
    st.sampled_from([math.inf, 1.0, 6.0, 30.0]),
    st.sampled_from(["high", "normal", "low"]),
    st.sampled_from(["m", "other"]),
)
ACTIONS = st.lists(
    st.one_of(
        REQUEST,
        REQUEST,
        st.tuples(st.just("cancel"), st.integers(0, 60)),
        st.tuples(st.just("wait"), st.sampled_from([0.0, 0.25, 1.0, 5.0])),
        st.tuples(st.just("engine"), st.booleans(), st.sampled_from([0.2, 1.0, 3.0])),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(
    actions=ACTIONS,
    concurrency=st.integers(1, 2),
    overload=st.sampled_from(["degrade", "reject"]),
    delay=st.sampled_from([0.0, 2.0]),
    hang_s=st.sampled_from([8.0, 1e6]),
)
def test_any_interleaving_of_submits_cancels_deadlines_and_failures_ends_every_request_once(
    actions: list[Any], concurrency: int, overload: Any, delay: float, hang_s: float
) -> None:
    @on_simulated_time
    async def scenario() -> None:
        world = World(
            concurrency=concurrency,
            overload=overload,
            max_delay_s=delay,
            hang_s=hang_s,
            capacity_images=12,
            capacity_s=60.0,
        )
        sent: list[tuple[asyncio.Task[tuple[float, BatchResult]], list[float], tuple[int, ...], float]] = []
        cancelled: set[int] = set()
        value = 0.0

        async def timed(values: list[float], within: float, **options: Any) -> tuple[float, BatchResult]:
            due = world.now + within
            try:
                result = await world.ask(*values, within=within, **options)
            except DeadlinePassed:
                # To the moment; only a request that comes after its deadline learns it at once.
                assert world.now == pytest.approx(due)
                raise
            return world.now, result

        for action in actions:
            match action:
                case ("submit", int(count), tuple(budgets), float(within), str(priority), str(key)):
                    values = [value + i for i in range(count)]
                    value += count
                    request = timed(values, within, t=budgets, priority=priority, key=key)
                    sent.append((world.loop.create_task(request), values, budgets, world.now + within))
                case ("cancel", int(index)) if sent:
                    if sent[index % len(sent)][0].cancel():
                        cancelled.add(index % len(sent))
                case ("wait", float(seconds)):
                    await asyncio.sleep(seconds)
                case ("engine", bool(fails), float(slowness)):
                    world.engine.failure = OSError("broken") if fails else None
                    world.engine.slowness = slowness
            assert 0 <= world.scheduler.queued_images <= 12
        world.engine.failure = None
        await world.finish()

        assert (world.scheduler.queued_images, world.scheduler.running_images) == (0, 0)
        assert world.scheduler.stalled is None
        for index, (task, values, budgets, due) in enumerate(sent):
            assert task.done()
            assert task.cancelled() == (index in cancelled)
            if task.cancelled():
                continue
            error = task.exception()
            assert error is None or isinstance(error, QueueFull | TooLate | DeadlinePassed | EngineError | Stalled)
            if error is None:
                at, result = task.result()
                assert at <= due + 1e-9
                assert result.timesteps in budgets
                assert (result.reason == "requested") == (len(budgets) == 1)
                # The same as alone: each image's value times the budget.
                assert result.outputs.logits[:, 0].tolist() == [v * result.timesteps for v in values]
        ran = Counter(value for ran in world.engine.ran for value in ran.values)
        assert not ran or max(ran.values()) == 1  # no image ran twice

    scenario()
