"""Gathers requests into batches and runs them, one batch at a time.

Nothing waits on purpose: whenever the engine is free, the batcher takes what is there of the longest-waiting lane, up
to the engine's largest bucket. A lane holds the requests that may share a batch. Knows nothing of HTTP, nor of models.

    `Batcher`                 runs batches and answers requests
    `work_queue.WorkQueue`    who waits, and who is next
    `costs.Costs`             what batches took, for predictions

Everything but the engine's own work happens on the event loop, so nothing here needs a lock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial

import numpy as np

from models.bundle import Engine, FloatArray, Outputs
from service.costs import Costs
from service.engines import EngineError
from service.work_queue import Batch, BatchResult, Request, WorkQueue

__all__ = ["BatchResult", "Batcher", "BatcherClosed", "QueueFull"]


class QueueFull(Exception):
    """The request does not fit the queue now; in ``retry_after_s`` seconds what waits should be done."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"the queue is full; it should be empty in {retry_after_s:.1f} s")
        self.retry_after_s = retry_after_s


class BatcherClosed(Exception):
    """The batcher is closing and takes nothing new."""


class Batcher:
    """Runs requests in batches, first come first served among lanes.

    Args:
        capacity_images: most images that may wait; those that run do not count.
        concurrency: batches that run at once.
        executor: runs the engines; by default a pool of ``concurrency`` threads, which `close` shuts down.
        clock: seconds; read from the executor's threads too.
    """

    def __init__(
        self,
        *,
        capacity_images: int,
        concurrency: int = 1,
        executor: Executor | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._capacity_images = capacity_images
        self._concurrency = concurrency
        self._owns_executor = executor is None
        self._executor = executor or ThreadPoolExecutor(concurrency, thread_name_prefix="engine")
        self._clock = clock
        self._queue = WorkQueue()
        self._costs = Costs()
        self._running: set[Batch] = set()
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def queued_images(self) -> int:
        """Images that wait."""
        return self._queue.images

    @property
    def running_images(self) -> int:
        """Images in batches that run."""
        return sum(batch.size for batch in self._running)

    async def submit(self, engine: Engine, key: Hashable, timesteps: int, images: FloatArray) -> BatchResult:
        """Have images, float32 [n, C, H, W] with n ≥ 1, classified; they stay together in one batch.

        ``key`` names what costs depend on besides the time-steps: model and version. Requests share a batch only
        when engine, key and time-steps are the same.

        Cancelling the caller takes the request out of the queue at once; where its batch runs already, only its share
        of the answer is dropped. Raises QueueFull, BatcherClosed, and EngineError for whatever the engine raised.
        """
        if not len(images):
            raise ValueError("a request needs at least one image")
        if self._closed:
            raise BatcherClosed("the batcher is closing")
        if self._queue.images + len(images) > self._capacity_images:
            raise QueueFull(self._drain_s())
        loop = asyncio.get_running_loop()
        request = Request(engine, key, timesteps, images, self._clock(), loop.create_future())
        self._queue.add(request)
        self._idle.clear()
        # Not at once: what else arrives in this turn of the event loop belongs to the same batch.
        loop.call_soon(self._dispatch)
        try:
            return await request.answer
        finally:
            self._queue.discard(request)
            self._note_idle()

    async def close(self) -> None:
        """Take nothing new, and return once everything that was accepted is answered.

        Where the wait is cancelled, what has not begun by then fails with BatcherClosed.
        """
        self._closed = True
        try:
            await self._idle.wait()
        finally:
            for request in self._queue.clear():
                _fail(request, BatcherClosed("the batcher closed before the request's turn"))
            if self._owns_executor:
                self._executor.shutdown(wait=False)

    def _drain_s(self) -> float:
        """Predicted seconds until all that waits and runs is done."""
        work = self._queue.work()
        for batch in self._running:
            work[batch.cost_key] += batch.size
        return self._costs.predict(work) / self._concurrency

    def _dispatch(self) -> None:
        """Start batches as long as there are any and may be more."""
        loop = asyncio.get_running_loop()
        while len(self._running) < self._concurrency and (batch := self._queue.take()):
            try:
                run = loop.run_in_executor(self._executor, self._compute, batch)
            except RuntimeError as error:  # the executor was shut down by its owner
                for request in batch.requests:
                    _fail(request, error)
                continue
            self._running.add(batch)
            run.add_done_callback(partial(self._finish, batch))

    def _compute(self, batch: Batch) -> tuple[float, float, Outputs]:
        """The engine's work, off the event loop: when it began and ended, and the outputs of all rows."""
        requests = batch.requests
        began = self._clock()
        images = requests[0].images if len(requests) == 1 else np.concatenate([r.images for r in requests])
        try:
            outputs = batch.engine.run(images, requests[0].timesteps)
        except EngineError:
            raise
        except Exception as error:  # anything, even what a future refuses to carry, such as StopIteration
            raise EngineError(repr(error)) from error
        ended = self._clock()
        if any(len(rows) != batch.size for rows in (outputs.logits, outputs.spikes, outputs.synops)):
            raise EngineError(f"{batch.engine.name} did not answer for each of {batch.size} images")
        return began, ended, outputs

    def _finish(self, batch: Batch, run: asyncio.Future[tuple[float, float, Outputs]]) -> None:
        """Answer a batch's requests, whatever came of it, and go on with the next."""
        try:
            began, ended, outputs = run.result()
            self._costs.observe(batch.cost_key, batch.size, ended - began)
            start = 0
            for request in batch.requests:
                rows = slice(start, start + len(request.images))
                start = rows.stop
                share = Outputs(outputs.logits[rows], outputs.spikes[rows], outputs.synops[rows])
                if not request.answer.done():
                    request.answer.set_result(BatchResult(share, began - request.arrived, ended - began, batch.size))
        except Exception as error:  # whatever went wrong belongs to the requests of this batch, and to no other
            for request in batch.requests:
                _fail(request, error)
        finally:
            for request in batch.requests:
                request.answer.cancel()  # only open where the run itself was cancelled, or ended the program
            self._running.discard(batch)
            self._dispatch()
            self._note_idle()

    def _note_idle(self) -> None:
        if not self._queue and not self._running:
            self._idle.set()


def _fail(request: Request, error: Exception) -> None:
    """Fail a request with an exception of its own: one that several tasks raise would mix up their tracebacks."""
    if request.answer.done():
        return
    if not isinstance(error, BatcherClosed):
        cause, error = error, EngineError(str(error) if isinstance(error, EngineError) else repr(error))
        error.__cause__ = cause
    request.answer.set_exception(error)
