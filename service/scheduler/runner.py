"""Runs a batch's engine, in a thread or on the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from models.bundle import Outputs
from service.engines import EngineError
from service.scheduler.work import Batch

Clock = Callable[[], float]


@dataclass(frozen=True)
class Run:
    """When the engine began and ended, in the scheduler's clock, and its outputs for all rows of the batch."""

    began: float
    ended: float
    outputs: Outputs


class Runner(Protocol):
    """Runs batches."""

    def start(self, batch: Batch, *, inline: bool) -> asyncio.Future[Run]:
        """Begin, and return a future that fails with EngineError where the engine does.

        ``inline`` batches hold up the event loop until they are done. Raises RuntimeError when nothing can be begun any
        more.
        """

    def close(self) -> None:
        """Begin nothing more; what runs goes on."""


class ThreadRunner:
    """Runs each batch in a thread of an executor, or at once where it is so short that the hand-over would take longer.

    Args:
        concurrency: threads of its own pool, without an ``executor``.
        executor: used instead of a pool of its own, and not shut down.
        clock: seconds; read from the executor's threads too.
    """

    def __init__(
        self, concurrency: int = 1, executor: Executor | None = None, clock: Clock = time.perf_counter
    ) -> None:
        self._owns_executor = executor is None
        self._executor = executor or ThreadPoolExecutor(concurrency, thread_name_prefix="engine")
        self._clock = clock

    def start(self, batch: Batch, *, inline: bool) -> asyncio.Future[Run]:
        """See `Runner`."""
        loop = asyncio.get_running_loop()
        if not inline:
            return loop.run_in_executor(self._executor, self._run, batch)
        run: asyncio.Future[Run] = loop.create_future()
        try:
            run.set_result(self._run(batch))
        except EngineError as error:
            run.set_exception(error)
        return run

    def close(self) -> None:
        """See `Runner`; does not wait."""
        if self._owns_executor:
            self._executor.shutdown(wait=False)

    def _run(self, batch: Batch) -> Run:
        """The engine's work."""
        requests = batch.requests
        began = self._clock()
        images = requests[0].images if len(requests) == 1 else np.concatenate([r.images for r in requests])
        try:
            outputs = batch.engine.run(images, batch.timesteps)
        except EngineError:
            raise
        except Exception as error:  # anything, even what a future refuses to carry, such as StopIteration
            raise EngineError(repr(error)) from error
        ended = self._clock()
        if any(len(rows) != batch.size for rows in (outputs.logits, outputs.spikes, outputs.synops)):
            raise EngineError(f"{batch.engine.name} did not answer for each of {batch.size} images")
        return Run(began, ended, outputs)
