"""The scheduler on an event loop: requests in, batches to the engine, answers out.

Nothing waits on purpose unless it is told to: whenever the engine is free, the lane whose turn it is gets it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from models.bundle import Engine, FloatArray, Outputs
from service.engines import EngineError
from service.scheduler.admission import Admission, Refused
from service.scheduler.costs import CostModel
from service.scheduler.forecast import Forecast, Overload
from service.scheduler.handling import Handling
from service.scheduler.load import OfferedLoad
from service.scheduler.policy import BudgetPolicy
from service.scheduler.queue import Lane, WorkQueue
from service.scheduler.runner import Clock, Run, Runner, ThreadRunner
from service.scheduler.sharing import Sharing
from service.scheduler.work import Batch, BatchResult, Priority, Request

_log = logging.getLogger("lmht")


class Closed(Exception):
    """The scheduler is closing and takes nothing new."""


class DeadlinePassed(Exception):
    """The request's deadline has passed; its work is dropped where it had not begun."""


class Stalled(Exception):
    """The engine does not come back from a batch."""


@dataclass(frozen=True)
class Limits:
    """How much may wait, and how long.

    Args:
        capacity_images: most images that may wait; those that run do not count.
        capacity_s: most seconds of work that may wait, as predicted.
        max_delay_s: how long a request may wait for others to share its batch although the engine is free.
        patience_s: when requests that left their budget open should be answered where they set no deadline; at least
            twice what the largest budget takes.
        hang_s: an engine that is not back after so long is reported as stalled.
        inline_s: batches that take less, as predicted with a margin, run on the event loop: for them the way to
            a thread and back would be most of the time. Nobody notices one that hangs there but who asks the server.
    """

    capacity_images: int = 512
    capacity_s: float = 10.0
    max_delay_s: float = 0.0
    patience_s: float = 0.25
    hang_s: float = 60.0
    inline_s: float = 0.0


class Scheduler:
    """Runs requests in batches.

    Args:
        limits: how much may wait, and how long.
        overload: see `service.scheduler.policy.BudgetPolicy`.
        concurrency: batches that run at once.
        runner: runs them; by default in as many threads.
        clock: seconds, the same as the runner's.
        on_run: called with each batch that was run: its key, its images and its seconds.
        busy: seconds that the event loop's thread was busy; see `service.scheduler.handling`.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        overload: Overload = "degrade",
        concurrency: int = 1,
        runner: Runner | None = None,
        clock: Clock = time.perf_counter,
        on_run: Callable[[Hashable, int, float], None] = lambda key, images, seconds: None,
        busy: Clock = lambda: 0.0,
    ) -> None:
        self._on_run = on_run
        self._limits = limits or Limits()
        self._overload = overload
        self._concurrency = concurrency
        self._runner = runner or ThreadRunner(concurrency, clock=clock, hang_s=self._limits.hang_s)
        self._clock = clock
        self._queue = WorkQueue()
        self._handling = Handling(busy, clock())
        self._costs = CostModel(self._handling)
        forecast = Forecast(self._costs, overload, concurrency)
        self._load = OfferedLoad()
        self._forecast = forecast
        self._policy = BudgetPolicy(self._costs, forecast, self._load, overload)
        self._admission = Admission(
            self._costs,
            forecast,
            capacity_s=self._limits.capacity_s,
            capacity_images=self._limits.capacity_images,
        )
        # When each is predicted to end.
        self._running: dict[Batch, float] = {}
        self._sharing = Sharing()
        # Those whose callers have yet to take their results.
        self._answering: set[Request] = set()
        self._hung: set[Batch] = set()
        self._alarm: asyncio.TimerHandle | None = None
        self._closed = False
        self._changed = asyncio.Event()

    @property
    def queued_images(self) -> int:
        """Images that wait."""
        return self._queue.images

    @property
    def queued_s(self) -> float:
        """Seconds of work that wait, as predicted; what `Limits.capacity_s` bounds."""
        return self._forecast.drain_s(self._queue)

    @property
    def running_images(self) -> int:
        """Images in batches that run."""
        return sum(batch.size for batch in self._running)

    @property
    def stalled(self) -> str | None:
        """Which engine does not come back from a batch; None where all is well."""
        for batch in self._hung:
            return f"{batch.engine.name} has not come back from {batch.size} images at T = {batch.timesteps}"
        return None

    def seed(self, key: Hashable, timesteps: int, seconds: Mapping[int, float]) -> None:
        """Say what batches of a model took before it was served: seconds by number of images."""
        self._costs.seed(key, timesteps, seconds)

    def forget(self, key: Hashable) -> None:
        """Drop what is known of a model that is no longer served."""
        self._costs.forget(key)

    def alone_s(self, key: Hashable, timesteps: int, images: int) -> float | None:
        """Predicted seconds of a request that finds the engine free; None where nothing was measured yet."""
        return self._costs.engine_s(key, timesteps, images) if self._costs.knows(key, timesteps) else None

    def check(
        self,
        engine: Engine,
        key: Hashable,
        budgets: Sequence[int],
        shape: tuple[int, ...],
        *,
        deadline: float = math.inf,
        priority: Priority = "normal",
    ) -> None:
        """Refuse, as `submit` would, before anything was done for a request but to read it.

        ``shape`` is [n, C, H, W]. Raises DeadlinePassed, QueueFull or TooLate. What passes may still be refused when it
        is submitted.
        """
        now = self._clock()
        if deadline <= now:
            raise DeadlinePassed("the deadline had passed before the request was read")
        images: FloatArray = np.broadcast_to(np.float32(0), shape)  # of no size
        request = self._request(engine, key, budgets, images, now, deadline, priority)
        try:
            self._admission.check(request, self._queue, self._running_s(now), now)
        except Refused:
            self._arrive(request)
            raise

    async def submit(
        self,
        engine: Engine,
        key: Hashable,
        budgets: Sequence[int],
        images: FloatArray,
        *,
        deadline: float = math.inf,
        priority: Priority = "normal",
    ) -> BatchResult:
        """Have images, float32 [n, C, H, W] with n ≥ 1, classified; they stay together in one batch.

        Args:
            engine: what runs them.
            key: names what costs depend on besides budget and number of images: model and version.
            budgets: time-steps, ascending: the only one that will do, or those to choose from.
            images: kept as they are until they have run.
            deadline: in the scheduler's clock.
            priority: the share of the engine's time that requests of its kind have while others wait.

        Requests share a batch only when engine, key and the budget that is run are the same.

        Cancelling the caller takes the request out of the queue at once; where its batch runs already, only its share
        of the answer is dropped. Raises DeadlinePassed the moment that happens; QueueFull or TooLate when it is not
        taken; Closed; Stalled while the engine does not come back; EngineError for whatever the engine raised.
        """
        if not len(images) or not budgets:
            raise ValueError("a request needs at least one image and one budget")
        if self._closed:
            raise Closed("the scheduler is closing")
        if len(self._hung) >= self._concurrency:
            raise Stalled(self.stalled)
        now = self._clock()
        if deadline <= now:
            raise DeadlinePassed("the deadline had passed before the request was queued")
        loop = asyncio.get_running_loop()
        request = self._request(engine, key, budgets, images, now, deadline, priority)
        self._arrive(request)
        self._admission.check(request, self._queue, self._running_s(now), now)
        self._queue.add(request)
        timer = loop.call_later(deadline - now, _expire, request) if deadline < math.inf else None
        # Not at once: what else arrives in this turn of the event loop belongs to the same batch.
        loop.call_soon(self._dispatch)
        try:
            return await request.answer
        finally:
            if timer:
                timer.cancel()
            self._queue.discard(request)
            self._answering.discard(request)
            self._changed.set()

    async def drained(self, engine: Engine) -> None:
        """Return once nothing of an engine waits or runs; for before it is closed. New requests prolong it."""
        await self._until(
            lambda: (
                any(batch.engine is engine for batch in self._running)
                or any(request.engine is engine for request in self._queue)
            )
        )

    def give_up(self) -> None:
        """Take nothing new, and fail what has not begun with Closed."""
        self._closed = True
        self._fail_waiting(Closed("the scheduler closed before the request's turn"))

    async def close(self) -> None:
        """Take nothing new, and return once everything that was accepted is answered.

        Where the wait is cancelled, what has not begun by then fails with Closed.
        """
        self._closed = True
        self._dispatch()
        try:
            await self._until(lambda: bool(self._queue or self._running))
        finally:
            self.give_up()
            self._runner.close()

    def _request(
        self,
        engine: Engine,
        key: Hashable,
        budgets: Sequence[int],
        images: FloatArray,
        now: float,
        deadline: float,
        priority: Priority,
    ) -> Request:
        due = min(deadline, now + self._patience_s(key, budgets, len(images)))
        answer: asyncio.Future[BatchResult] = asyncio.get_running_loop().create_future()
        return Request(engine, key, tuple(budgets), images, now, deadline, due, priority, answer)

    def _arrive(self, request: Request) -> None:
        work_s = self._forecast.work_s(request.key, request.budgets[0], len(request.images))
        self._load.arrive(work_s, request.arrived)

    async def _until(self, busy: Callable[[], bool]) -> None:
        while busy():
            self._changed.clear()
            await self._changed.wait()

    def _patience_s(self, key: Hashable, budgets: Sequence[int], images: int) -> float:
        """How long after its arrival a request should be answered that sets no deadline."""
        if len(budgets) == 1 or self._overload == "reject":
            return math.inf
        return max(self._limits.patience_s, 2 * self._costs.at_most(key, budgets[-1], images))

    def _running_s(self, now: float) -> float:
        """Predicted seconds until what runs is answered, shared among what can run at once."""
        answering_s = self._handling.image_s * sum(len(request.images) for request in self._answering)
        return answering_s + sum(max(0.0, end - now) for end in self._running.values()) / self._concurrency

    def _dispatch(self) -> None:
        """Start batches as long as there are any and may be more; of those that have the event loop, one at a time."""
        while len(self._running) < self._concurrency:
            now = self._clock()
            lane = self._ripe_lane(now)
            if lane is None:
                return
            batch = self._policy.next_batch(lane, self._queue, now)
            seconds = self._costs.seconds(batch.key, batch.timesteps, batch.size)
            self._queue.serve(lane, batch.requests, seconds)
            inline = self._is_quick(batch)
            try:
                run = self._runner.start(batch, inline=inline)
            except RuntimeError as error:  # the executor was shut down by its owner
                for request in batch.requests:
                    _fail(request, error)
                continue
            self._running[batch] = now + seconds
            self._sharing.begin(batch, now)
            watchdog = asyncio.get_running_loop().call_later(self._limits.hang_s, self._report_hung, batch)
            if run.done():
                self._handling.ran_inline(self._clock() - now)
                self._finish(batch, watchdog, run)
                # Not at once: these are to be answered, and others read.
                asyncio.get_running_loop().call_soon(self._dispatch)
                return
            run.add_done_callback(partial(self._finish_and_go_on, batch, watchdog))

    def _is_quick(self, batch: Batch) -> bool:
        """Whether a batch runs on the event loop."""
        known = self._costs.knows(batch.key, batch.timesteps)
        return known and self._costs.engine_at_most(batch.key, batch.timesteps, batch.size) < self._limits.inline_s

    def _ripe_lane(self, now: float) -> Lane | None:
        """The lane whose turn it is, of those that need not wait for company; sets the alarm for when one is."""
        if self._alarm:
            self._alarm.cancel()
            self._alarm = None
        soonest = math.inf
        for lane in self._queue.lanes:
            self._drop_answered(lane)
            if not lane:
                continue
            ripe = self._ripe_at(lane)
            if ripe <= now:
                return lane
            soonest = min(soonest, ripe)
        if soonest < math.inf:
            self._alarm = asyncio.get_running_loop().call_later(soonest - now, self._dispatch)
        return None

    def _drop_answered(self, lane: Lane) -> None:
        """Take out of the front what nobody waits for: cancelled in this very turn, it has yet to leave by itself."""
        while lane and lane.head.answer.done():
            self._queue.discard(lane.head)

    def _ripe_at(self, lane: Lane) -> float:
        """When a lane's turn may come: at once if its batch is full, else after the delay, deadlines allowing."""
        delay = self._limits.max_delay_s
        if not delay or self._closed or lane.images >= lane.bucket:
            return -math.inf
        head = lane.head
        latest = head.deadline - self._costs.at_most(lane.key, lane.budgets[-1], lane.images)
        return min(head.arrived + delay, latest)

    def _finish_and_go_on(self, batch: Batch, watchdog: asyncio.TimerHandle, run: asyncio.Future[Run]) -> None:
        """The engine is free before anything else is done on the event loop."""
        try:
            self._finish(batch, watchdog, run)
        finally:
            self._dispatch()

    def _finish(self, batch: Batch, watchdog: asyncio.TimerHandle, run: asyncio.Future[Run]) -> None:
        """Answer a batch's requests, whatever came of it."""
        watchdog.cancel()
        shared_s = self._sharing.end(batch, self._clock())
        if batch in self._hung:
            self._hung.discard(batch)
            _log.warning("%s has come back after all", batch.engine.name)
        try:
            done = run.result()
            seconds = done.ended - done.began
            self._costs.observe(batch.key, batch.timesteps, batch.size, seconds)
            self._on_run(batch.key, batch.size, seconds)
            start = 0
            for request in batch.requests:
                rows = slice(start, start + len(request.images))
                start = rows.stop
                if not request.answer.done():
                    self._answering.add(request)
                    request.answer.set_result(_share(batch, request, done, shared_s, rows))
            self._handling.answered(batch.size, self._clock())
        except Exception as error:  # whatever went wrong belongs to the requests of this batch, and to no other
            for request in batch.requests:
                _fail(request, error)
        finally:
            for request in batch.requests:
                request.answer.cancel()  # only open where the run itself was cancelled, or ended the program
            del self._running[batch]
            self._changed.set()

    def _report_hung(self, batch: Batch) -> None:
        """The engine has been at it for too long: its requests fail, and what waits behind it if nothing else runs."""
        self._hung.add(batch)
        _log.error("%s; its requests fail", self.stalled)
        for request in batch.requests:
            _fail(request, EngineError(f"no answer within {self._limits.hang_s:g} s"))
        if len(self._hung) >= self._concurrency:
            self._fail_waiting(Stalled(self.stalled))

    def _fail_waiting(self, error: Exception) -> None:
        for request in list(self._queue):
            self._queue.discard(request)
            _fail(request, error)


def _share(batch: Batch, request: Request, run: Run, shared_s: float, rows: slice) -> BatchResult:
    """One request's share of what a batch brought."""
    outputs = Outputs(run.outputs.logits[rows], run.outputs.spikes[rows], run.outputs.synops[rows])
    return BatchResult(
        outputs,
        batch.timesteps,
        batch.reason_of(request),
        began=run.began,
        queue_s=run.began - request.arrived,
        compute_s=run.ended - run.began,
        # The way to the engine and back is none of its time.
        shared_s=min(shared_s, run.ended - run.began),
        batch_size=batch.size,
    )


def _expire(request: Request) -> None:
    if not request.answer.done():
        request.answer.set_exception(DeadlinePassed("the deadline has passed"))


def _fail(request: Request, error: Exception) -> None:
    """Fail a request with an exception of its own: one that several tasks raise would mix up their tracebacks."""
    if request.answer.done():
        return
    cause, kind = error, type(error) if isinstance(error, Closed | Stalled | EngineError) else EngineError
    error = kind(str(cause) if kind is type(cause) else repr(cause))
    error.__cause__ = cause
    request.answer.set_exception(error)
