"""Runs a batch's engine, in a thread or on the event loop."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
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
_log = logging.getLogger("lmht")


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
        hang_s: an inline batch that takes longer is logged, by a thread, since the event loop cannot.
    """

    def __init__(
        self,
        concurrency: int = 1,
        executor: Executor | None = None,
        clock: Clock = time.perf_counter,
        hang_s: float = math.inf,
    ) -> None:
        self._owns_executor = executor is None
        self._executor = executor or ThreadPoolExecutor(concurrency, thread_name_prefix="engine")
        self._clock = clock
        self._hang_s = hang_s
        self._inline: tuple[Batch, float] | None = None
        self._watch: threading.Thread | None = None
        self._closed = threading.Event()

    def start(self, batch: Batch, *, inline: bool) -> asyncio.Future[Run]:
        """See `Runner`."""
        loop = asyncio.get_running_loop()
        if not inline:
            return loop.run_in_executor(self._executor, self._run, batch)
        if self._watch is None and self._hang_s < math.inf:
            self._watch = threading.Thread(target=self._report_hung, name="inline-watch", daemon=True)
            self._watch.start()
        run: asyncio.Future[Run] = loop.create_future()
        self._inline = batch, time.monotonic()
        try:
            run.set_result(self._run(batch))
        except EngineError as error:
            run.set_exception(error)
        finally:
            self._inline = None
        return run

    def close(self) -> None:
        """See `Runner`; does not wait."""
        self._closed.set()
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

    def _report_hung(self) -> None:
        """Log an inline batch that does not come back, once."""
        reported: Batch | None = None
        while not self._closed.wait(self._hang_s / 4):
            inline = self._inline
            if inline and inline[0] is not reported and time.monotonic() - inline[1] > self._hang_s:
                reported = inline[0]
                _log.error(
                    "%s has not come back from %d images at T = %d; it has the event loop, and nothing is answered",
                    reported.engine.name,
                    reported.size,
                    reported.timesteps,
                )
