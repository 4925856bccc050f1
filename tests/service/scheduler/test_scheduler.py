"""The scheduler with an engine of paper, and no server in sight.

Most tests run the engine by hand (`ByHand`), step by step on the event loop's own thread, so that every interleaving is
exactly the one that is written down.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.bundle import FloatArray, Outputs
from service.engines import EngineError
from service.scheduler import BatchResult, Closed, Limits, QueueFull, Scheduler
from service.scheduler.runner import Run, ThreadRunner

LARGEST = 4


class PaperEngine:
    """Answers from the images' values and the budget; fails or waits when told to. Remembers its calls."""

    name = "paper"
    batch_sizes = (1, LARGEST)

    def __init__(self) -> None:
        self.calls: list[tuple[list[float], int]] = []
        self.failure: BaseException | None = None
        self.gate = threading.Event()
        self.gate.set()

    def run(self, images: FloatArray, timesteps: int) -> Outputs:
        self.calls.append(([float(image[0, 0, 0]) for image in images], timesteps))
        assert self.gate.wait(20)
        if self.failure:
            raise self.failure
        return answer(images, timesteps)

    def close(self) -> None:
        """Holds nothing."""


def answer(images: FloatArray, timesteps: int) -> Outputs:
    """What an image gets, whichever batch it is in."""
    values = images.reshape(len(images), -1).sum(1, keepdims=True)
    counts = values.astype(np.float64)
    return Outputs(values * timesteps, counts + timesteps, counts * 2)


def pictures(*values: float) -> FloatArray:
    """One 1×2×2 image for each value."""
    return np.array(values, np.float32).reshape(-1, 1, 1, 1) * np.ones((1, 1, 2, 2), np.float32)


class ByHand(Executor):
    """Runs what was submitted when `step` is called, in order."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((future, lambda: fn(*args, **kwargs)))
        return future

    async def step(self) -> None:
        """Run one and let what follows from it happen."""
        future, work = self.waiting.pop(0)
        try:
            result = work()
        except BaseException as error:  # as an executor's thread does
            future.set_exception(error)
        else:
            future.set_result(result)
        await settle()


async def settle() -> None:
    """Let everything happen that can without the engine."""
    for _ in range(10):
        await asyncio.sleep(0)


class Bench:
    """A scheduler whose engines run by hand, and whose clock is set by hand."""

    def __init__(self, capacity_images: int = 100, concurrency: int = 1) -> None:
        self.now = 0.0
        self.executor = ByHand()
        self.engine = PaperEngine()
        self.scheduler = Scheduler(
            Limits(capacity_images=capacity_images, capacity_s=1e9),
            concurrency=concurrency,
            runner=ThreadRunner(executor=self.executor, clock=self.clock),
            clock=self.clock,
        )

    def clock(self) -> float:
        return self.now

    def submit(self, *values: float, t: int = 1, key: str = "m", engine: PaperEngine | None = None) -> Any:
        request = self.scheduler.submit(engine or self.engine, key, [t], pictures(*values))
        return asyncio.create_task(request)

    async def busy(self) -> asyncio.Task[BatchResult]:
        """Start a batch that runs until the next step, so that what comes after it has to wait."""
        task: asyncio.Task[BatchResult] = self.submit(-1)
        await settle()
        return task

    async def finish(self) -> None:
        await settle()
        while self.executor.waiting:
            await self.executor.step()

    @property
    def batches(self) -> list[list[float]]:
        return [values for values, _ in self.engine.calls]


def on_a_loop(scenario: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test on an event loop, where nothing may hang and no callback may fail."""

    def test() -> None:
        complaints: list[dict[str, Any]] = []

        async def guarded() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            await asyncio.wait_for(scenario(), 30)

        asyncio.run(guarded())
        assert not complaints

    test.__name__, test.__doc__ = scenario.__name__, scenario.__doc__
    return test


def assert_answers(result: BatchResult, images: FloatArray, timesteps: int) -> None:
    alone = answer(images, timesteps)
    for name in ("logits", "spikes", "synops"):
        np.testing.assert_array_equal(getattr(result.outputs, name), getattr(alone, name))


# --- What shares a batch ---------------------------------------------------------------------------------------------


@on_a_loop
async def test_each_request_gets_its_own_rows_as_if_it_had_been_alone() -> None:
    bench = Bench()
    one, two, three = bench.submit(1), bench.submit(2, 3), bench.submit(4)
    await bench.finish()
    assert bench.batches == [[1, 2, 3, 4]]
    assert_answers(one.result(), pictures(1), 1)
    assert_answers(two.result(), pictures(2, 3), 1)
    assert_answers(three.result(), pictures(4), 1)
    assert [task.result().batch_size for task in (one, two, three)] == [4, 4, 4]


@on_a_loop
async def test_nothing_waits_for_company_and_what_came_meanwhile_shares_the_next_batch() -> None:
    bench = Bench()
    bench.submit(1)
    await settle()
    assert len(bench.executor.waiting) == 1
    for value in (2, 3, 4):
        bench.submit(value)
        await settle()
    assert len(bench.executor.waiting) == 1
    await bench.finish()
    assert bench.batches == [[1], [2, 3, 4]]


@on_a_loop
async def test_a_batch_is_no_larger_than_the_largest_bucket() -> None:
    bench = Bench()
    await bench.busy()
    for value in (1, 3, 5, 7, 9):
        bench.submit(value, value + 1) if value < 9 else bench.submit(value)
    await bench.finish()
    assert bench.batches == [[-1], [1, 2, 3, 4], [5, 6, 7, 8], [9]]


@on_a_loop
async def test_requests_stay_whole_and_in_order() -> None:
    bench = Bench()
    await bench.busy()
    tasks = [bench.submit(1), bench.submit(2, 3, 4, 5), bench.submit(6)]
    await bench.finish()
    assert bench.batches == [[-1], [1], [2, 3, 4, 5], [6]]
    assert_answers(tasks[1].result(), pictures(2, 3, 4, 5), 1)


@on_a_loop
async def test_a_request_larger_than_the_largest_bucket_runs_alone_as_one() -> None:
    bench = Bench()
    await bench.busy()
    small, large, last = bench.submit(0), bench.submit(1, 2, 3, 4, 5, 6), bench.submit(7)
    await bench.finish()
    assert bench.batches == [[-1], [0], [1, 2, 3, 4, 5, 6], [7]]
    assert_answers(large.result(), pictures(1, 2, 3, 4, 5, 6), 1)
    assert (small.result().batch_size, large.result().batch_size, last.result().batch_size) == (1, 6, 1)


@on_a_loop
async def test_budgets_models_and_engines_are_never_mixed() -> None:
    bench, other = Bench(), PaperEngine()
    await bench.busy()
    tasks = [
        bench.submit(1, t=1),
        bench.submit(2, t=4),
        bench.submit(3, key="another"),
        bench.submit(4, engine=other),
        bench.submit(5, t=4),
    ]
    await bench.finish()
    assert sorted(bench.engine.calls) == [([-1], 1), ([1], 1), ([2, 5], 4), ([3], 1)]
    assert other.calls == [([4], 1)]
    assert_answers(tasks[4].result(), pictures(5), 4)


@on_a_loop
async def test_images_of_another_shape_do_not_spoil_the_batch_of_others() -> None:
    bench = Bench()
    good = bench.submit(1)
    odd = asyncio.create_task(bench.scheduler.submit(bench.engine, "m", [1], np.ones((1, 1, 3, 3), np.float32)))
    await bench.finish()
    assert good.result().batch_size == odd.result().batch_size == 1


@on_a_loop
async def test_two_batches_run_at_once_where_two_may() -> None:
    bench = Bench(concurrency=2)
    for value in (1, 2, 3):
        bench.submit(value)
        await settle()
    assert (len(bench.executor.waiting), bench.scheduler.running_images, bench.scheduler.queued_images) == (2, 2, 1)
    await bench.finish()
    assert bench.batches == [[1], [2], [3]]


# --- Cancellation ----------------------------------------------------------------------------------------------------


@on_a_loop
async def test_a_cancelled_request_leaves_the_queue_at_once_and_does_not_strand_its_batch() -> None:
    bench = Bench()
    await bench.busy()
    first, gone, last = bench.submit(1), bench.submit(2, 3), bench.submit(4)
    await settle()
    assert bench.scheduler.queued_images == 4
    gone.cancel()
    await settle()
    assert bench.scheduler.queued_images == 2
    await bench.finish()
    assert gone.cancelled()
    assert bench.batches == [[-1], [1, 4]]
    assert_answers(first.result(), pictures(1), 1)
    assert_answers(last.result(), pictures(4), 1)


async def end_batch_and_cancel(bench: Bench, task: asyncio.Task[BatchResult]) -> None:
    """In the turn in which the next batch is taken, the task is cancelled already but has not run yet."""
    future, work = bench.executor.waiting.pop(0)
    future.set_result(work())
    asyncio.get_running_loop().call_soon(task.cancel)
    await bench.finish()


@on_a_loop
async def test_a_request_cancelled_in_the_very_turn_its_batch_is_formed_is_left_out() -> None:
    bench = Bench()
    await bench.busy()
    gone, stays = bench.submit(1), bench.submit(2)
    await settle()
    await end_batch_and_cancel(bench, gone)
    assert gone.cancelled()
    assert bench.batches == [[-1], [2]]
    assert_answers(stays.result(), pictures(2), 1)
    assert bench.scheduler.queued_images == 0


@on_a_loop
async def test_a_lane_whose_requests_were_all_cancelled_does_not_hold_up_the_others() -> None:
    bench = Bench()
    await bench.busy()
    gone, stays = bench.submit(1, t=2), bench.submit(2, t=4)
    await settle()
    await end_batch_and_cancel(bench, gone)
    assert gone.cancelled()
    assert bench.engine.calls == [([-1], 1), ([2], 4)]
    assert_answers(stays.result(), pictures(2), 4)


@on_a_loop
async def test_a_request_cancelled_while_it_runs_does_not_disturb_its_mates() -> None:
    bench = Bench()
    first, gone, last = bench.submit(1), bench.submit(2, 3), bench.submit(4)
    await settle()
    gone.cancel()
    await settle()
    assert bench.scheduler.running_images == 4
    await bench.finish()
    assert gone.cancelled()
    assert_answers(first.result(), pictures(1), 1)
    assert_answers(last.result(), pictures(4), 1)
    assert (bench.scheduler.running_images, bench.scheduler.queued_images) == (0, 0)


# --- Failure ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [EngineError("no"), RuntimeError("no"), MemoryError("no"), StopIteration("no")])
def test_a_failing_engine_fails_the_requests_of_its_batch_and_the_next_batch_runs(failure: Exception) -> None:
    @on_a_loop
    async def scenario() -> None:
        bench = Bench()
        bench.engine.failure = failure
        failed = [bench.submit(1), bench.submit(2)]
        await settle()
        fine = bench.submit(3)
        await bench.executor.step()
        bench.engine.failure = None
        await bench.finish()
        errors = [task.exception() for task in failed]
        assert all(isinstance(error, EngineError) and "no" in str(error) for error in errors)
        assert errors[0] is not errors[1]
        assert_answers(fine.result(), pictures(3), 1)
        assert (bench.scheduler.running_images, bench.scheduler.queued_images) == (0, 0)

    scenario()


@on_a_loop
async def test_an_engine_that_answers_for_too_few_images_fails_its_batch() -> None:
    bench = Bench()

    def forget(images: FloatArray, timesteps: int) -> Outputs:
        return answer(images[:1], timesteps)

    bench.engine.run = forget  # type: ignore[method-assign]
    tasks = [bench.submit(1), bench.submit(2)]
    await bench.finish()
    assert all(isinstance(task.exception(), EngineError) for task in tasks)


@on_a_loop
async def test_an_executor_that_was_shut_down_fails_the_requests_instead_of_keeping_them() -> None:
    bench = Bench()

    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("cannot schedule new futures after shutdown")

    bench.executor.submit = refuse  # type: ignore[method-assign]
    task = bench.submit(1)
    await settle()
    assert isinstance(task.exception(), EngineError)
    await bench.scheduler.close()


# --- The bound -------------------------------------------------------------------------------------------------------


@on_a_loop
async def test_the_queue_is_bounded_by_images_and_what_runs_does_not_count() -> None:
    bench = Bench(capacity_images=5)
    await bench.busy()
    fits = [bench.submit(1, 2, 3), bench.submit(4, 5)]
    await settle()
    refused = bench.submit(6)
    await settle()
    assert isinstance(refused.exception(), QueueFull)
    assert bench.scheduler.queued_images == 5
    fits[0].cancel()
    await settle()
    taken = bench.submit(7, 8, 9)
    await bench.finish()
    assert_answers(taken.result(), pictures(7, 8, 9), 1)


@on_a_loop
async def test_a_full_queue_says_when_it_should_be_empty() -> None:
    bench = Bench(capacity_images=3)

    async def run_for(seconds: float, *values: float, t: int) -> None:
        bench.submit(*values, t=t)
        await settle()
        future, work = bench.executor.waiting.pop(0)
        future.set_result(Run(bench.now, bench.now + seconds, work().outputs))
        await settle()

    async def refusal() -> float:
        refused = bench.submit(*range(4))
        await settle()
        error = refused.exception()
        assert isinstance(error, QueueFull)
        return error.retry_after_s

    assert await refusal() == 0.0
    await run_for(4.0, 1, 2, t=1)
    await run_for(0.5, 1, t=4)
    running = bench.submit(1, 2, t=1)
    await settle()
    waiting = [bench.submit(3, t=1), bench.submit(4, t=4), bench.submit(5, t=8)]
    await settle()
    # 2 s an image at T = 1, three of them; 0.5 s at T = 4; T = 8, never seen, counts as the dearest.
    assert await refusal() == pytest.approx(3 * 2.0 + 0.5 + 2.0)
    await bench.finish()
    assert all(task.done() for task in (running, *waiting))
    assert await refusal() == 0.0


@on_a_loop
async def test_an_empty_request_is_a_mistake() -> None:
    bench = Bench()
    with pytest.raises(ValueError, match="at least one image"):
        await bench.scheduler.submit(bench.engine, "m", [1], pictures(1)[:0])


# --- Time ------------------------------------------------------------------------------------------------------------


@on_a_loop
async def test_the_result_tells_how_long_it_waited_and_how_long_the_engine_took() -> None:
    bench = Bench()
    slow = bench.engine.run

    def take_three_seconds(images: FloatArray, timesteps: int) -> Outputs:
        bench.now += 3
        return slow(images, timesteps)

    bench.engine.run = take_three_seconds  # type: ignore[method-assign]
    await bench.busy()
    bench.now = 10.0
    early = bench.submit(1)
    await settle()
    bench.now = 12.0
    late = bench.submit(2)
    await settle()
    bench.now = 20.0
    await bench.executor.step()  # until 23
    await bench.finish()
    assert (early.result().queue_s, early.result().compute_s) == (13.0, 3.0)
    assert (late.result().queue_s, late.result().compute_s) == (11.0, 3.0)


@on_a_loop
async def test_the_engine_works_off_the_event_loop() -> None:
    engine, scheduler = PaperEngine(), Scheduler()
    engine.gate.clear()
    running = asyncio.create_task(scheduler.submit(engine, "m", [1], pictures(1)))
    waiting = asyncio.create_task(scheduler.submit(engine, "m", [2], pictures(2)))
    while not engine.calls:
        await asyncio.sleep(0)  # the loop turns although the engine is stuck
    waiting.cancel()
    await settle()
    assert scheduler.queued_images == 0
    engine.gate.set()
    assert_answers(await running, pictures(1), 1)
    await scheduler.close()


# --- The end ---------------------------------------------------------------------------------------------------------


@on_a_loop
async def test_closing_answers_what_was_accepted_and_refuses_what_comes_after() -> None:
    bench = Bench()
    tasks = [await bench.busy(), bench.submit(1), bench.submit(2, t=2)]
    await settle()
    closing = asyncio.create_task(bench.scheduler.close())
    await settle()
    with pytest.raises(Closed):
        await bench.scheduler.submit(bench.engine, "m", [1], pictures(3))
    assert not closing.done()
    await bench.finish()
    await closing
    assert [task.result().batch_size for task in tasks] == [1, 1, 1]
    await bench.scheduler.close()  # once more is no harm


@on_a_loop
async def test_a_scheduler_that_never_ran_closes() -> None:
    await Scheduler().close()


@on_a_loop
async def test_giving_up_the_wait_for_the_end_fails_what_has_not_begun() -> None:
    bench = Bench()
    running, waiting = await bench.busy(), bench.submit(1)
    await settle()
    closing = asyncio.create_task(bench.scheduler.close())
    await settle()
    closing.cancel()
    await settle()
    assert isinstance(waiting.exception(), Closed)
    await bench.finish()
    assert_answers(running.result(), pictures(-1), 1)


# --- Any interleaving ------------------------------------------------------------------------------------------------

SUBMIT = st.tuples(st.just("submit"), st.integers(1, 6), st.sampled_from([1, 2]), st.sampled_from("ab"))
CANCEL = st.tuples(st.just("cancel"), st.integers(0, 50))
RUN = st.tuples(st.just("run"), st.booleans())
TURN = st.tuples(st.just("turn"))


@settings(max_examples=100, deadline=None)
@given(actions=st.lists(st.one_of(SUBMIT, SUBMIT, CANCEL, RUN, TURN), max_size=40), concurrency=st.integers(1, 2))
def test_any_interleaving_resolves_every_request_once_and_returns_the_accounting_to_zero(
    actions: list[tuple[Any, ...]], concurrency: int
) -> None:
    capacity = 12

    @on_a_loop
    async def scenario() -> None:
        bench = Bench(capacity, concurrency)
        requests: list[tuple[asyncio.Task[BatchResult], FloatArray, int]] = []
        cancelled: set[int] = set()
        value = 0.0
        for action in actions:
            match action:
                case ("submit", int(count), int(t), str(key)):
                    images = pictures(*(value + i for i in range(count)))
                    value += count
                    task = bench.submit(*(float(image[0, 0, 0]) for image in images), t=t, key=key)
                    requests.append((task, images, t))
                case ("cancel", int(index)) if requests:
                    if requests[index % len(requests)][0].cancel():
                        cancelled.add(index % len(requests))
                case ("run", bool(fails)) if bench.executor.waiting:
                    bench.engine.failure = OSError("broken") if fails else None
                    await bench.executor.step()
                case ("turn",):
                    await asyncio.sleep(0)
            assert 0 <= bench.scheduler.queued_images <= capacity
        bench.engine.failure = None
        await bench.finish()
        await asyncio.wait_for(bench.scheduler.close(), 5)

        assert (bench.scheduler.queued_images, bench.scheduler.running_images) == (0, 0)
        for index, (task, images, t) in enumerate(requests):
            assert task.done()
            assert task.cancelled() == (index in cancelled)
            if not task.cancelled():
                error = task.exception()
                assert error is None or isinstance(error, QueueFull | EngineError)
                if error is None:
                    assert_answers(task.result(), images, t)
        batched = [value for values, _ in bench.engine.calls for value in values]
        assert len(batched) == len(set(batched))  # no image ran twice
        starts = {float(images[0, 0, 0, 0]): len(images) for _, images, _ in requests}
        for values, _ in bench.engine.calls:
            assert len(values) <= LARGEST or len(values) == starts[values[0]]

    scenario()
