"""Several worker processes on one port: started, watched, replaced, and ended together.

A worker says over a pipe that its event loop turns; one that is silent for a minute is replaced, as is one that died.
Signals are for the supervisor, which hands them on. Nothing is unpickled that comes from a worker.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType

from service.signals import SIGNALS, die_of, ended

BEAT = b"."
# A worker may be compiling a large model, which keeps its event loop waiting.
_PATIENCE_S = 60.0
_LOOK_EVERY_S = 5.0
_AGAIN_S = 1.0
_log = logging.getLogger("lmht")
_spawn = multiprocessing.get_context("spawn")


class WorkerFailed(Exception):
    """No worker could ever start; the text says how the first one ended."""


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    heard: float = field(default_factory=time.monotonic)
    started: bool = False


class Supervisor:
    """Runs workers until a signal.

    Args:
        count: how many.
        target: what each runs, given the listener and the pipe to send `BEAT` on once it serves, and on.
        listener: what they share.
    """

    def __init__(
        self, count: int, target: Callable[[socket.socket, Connection], None], listener: socket.socket
    ) -> None:
        self._count = count
        self._target = target
        self._listener = listener
        self._workers: list[_Worker] = []
        self._signal: int | None = None
        self._ever_started = False
        self._wake_reader, self._wake_writer = os.pipe()

    def run(self) -> None:
        """Return once all workers have ended after a signal. Raises WorkerFailed."""
        os.set_blocking(self._wake_writer, False)
        signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, self._take)
        for _ in range(self._count):
            self._start()
        try:
            while self._signal is None:
                self._watch(_LOOK_EVERY_S)
                self._replace()
            # The workers have their own; this one would go on taking connections that nobody answers.
            self._listener.close()
            self._hand_on()
            while any(worker.process.is_alive() for worker in self._workers):
                self._watch(None)
        finally:
            for worker in self._workers:
                worker.process.kill()  # where one is left, something else went wrong
                worker.process.join()
            signal.set_wakeup_fd(-1)
        for worker in self._workers:
            assert worker.process.pid is not None
            status = worker.process.exitcode or 0
            # SIGTERM: it had not begun to serve.
            if status not in (0, -signal.SIGTERM):
                _log.error("worker %s", ended(worker.process.pid, status))

    def _take(self, number: int, frame: FrameType | None) -> None:
        """Runs between any two instructions of the program."""
        if self._signal is None:
            self._signal = number
            return
        for worker in self._workers:
            worker.process.kill()
        die_of(number)

    def _hand_on(self) -> None:
        """A worker takes it once, however often it comes."""
        for worker in self._workers:
            worker.process.terminate()

    def _start(self) -> None:
        here, there = _spawn.Pipe(duplex=False)
        process = _spawn.Process(target=self._target, args=(self._listener, there))
        process.start()
        there.close()
        self._workers.append(_Worker(process, here))

    def _watch(self, timeout_s: float | None) -> None:
        """Wait until something happens, and hear what workers say."""
        live = [worker for worker in self._workers if worker.process.is_alive()]
        if not live:  # the last one may have ended since the caller looked
            return
        pipes = {worker.pipe: worker for worker in live if not worker.pipe.closed}
        for ready in wait([self._wake_reader, *pipes, *(worker.process.sentinel for worker in live)], timeout_s):
            if ready == self._wake_reader:
                os.read(self._wake_reader, 64)
            elif isinstance(ready, Connection):
                worker = pipes[ready]
                try:
                    ready.recv_bytes()
                except (EOFError, OSError):
                    ready.close()
                else:
                    worker.heard = time.monotonic()
                    worker.started = self._ever_started = True

    def _replace(self) -> None:
        """Start another worker for each that has died or is silent."""
        now = time.monotonic()
        for worker in [*self._workers]:
            if self._signal is not None:
                return
            if worker.process.is_alive() and now - worker.heard < _PATIENCE_S:
                continue
            assert worker.process.pid is not None
            if worker.process.is_alive():
                _log.error("worker %d has not answered for %g s", worker.process.pid, now - worker.heard)
            worker.process.kill()
            worker.process.join()
            story = ended(worker.process.pid, worker.process.exitcode or 0)
            if not self._ever_started:
                raise WorkerFailed(f"no worker could start: {story}")
            _log.error("worker %s; another takes its place", story)
            self._workers.remove(worker)
            with contextlib.suppress(OSError):
                worker.pipe.close()
            if not worker.started:
                time.sleep(_AGAIN_S)
            self._start()
