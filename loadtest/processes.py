"""The client processes, as one: they share a schedule, begin together, and what they find is put together exactly."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from loadtest import samples
from loadtest.errors import LoadTestError
from loadtest.plan import Plan
from loadtest.progress import Progress, Watched
from loadtest.samples import Samples
from loadtest.worker import Broken, Finished, Go, Job, Ready, Setup, Stop

# From when all are ready until they begin.
_LEAD_S = 0.1
_POLL_S = 0.1
_END_S = 10.0


@dataclass(frozen=True)
class Driven:
    """What all processes made of a plan; see `loadtest.worker.Finished`. ``cpu`` is the busiest one's."""

    samples: Samples
    until_s: float
    cpu: float
    beats: npt.NDArray[np.float64]
    repeated: int
    waited: int
    did: Counter[str]
    codes: Counter[tuple[str, int]]


class Clients:
    """Client processes, to be used in a ``with`` statement; they stay for as many runs as are wanted."""

    def __init__(self, setup: Setup, processes: int) -> None:
        if processes < 1:
            raise LoadTestError(f"there is at least one client process, not {processes}")
        self._setup, self._count = setup, processes
        self._processes: list[subprocess.Popen[bytes]] = []
        self._pipes: list[Connection[Any, Any]] = []

    @property
    def count(self) -> int:
        """How many they are."""
        return self._count

    def labelled(self, models: Iterable[str]) -> int:
        """How many different pictures with a label these models are asked about."""
        return sum(each.label is not None for model in models for each in self._setup.pictures.get(model, ()))

    def __enter__(self) -> Self:
        for _ in range(self._count):
            here, there = Pipe()
            # Without what multiprocessing adds: the program that was called is not imported anew in each.
            command = [sys.executable, "-c", f"from loadtest.worker import main; main({there.fileno()})"]
            self._processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[there.fileno()]))
            there.close()
            self._pipes.append(here)
        for pipe in self._pipes:
            self._send(pipe, self._setup)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def run(
        self,
        plan: Plan,
        before: Callable[[], None] = lambda: None,
        on_tick: Callable[[float, Watched], bool] = lambda elapsed_s, watched: True,
    ) -> Driven:
        """Run a plan.

        Args:
            before: called when all are ready and nothing has been sent.
            on_tick: called about ten times a second with the seconds since the start; sending ends once it is false.

        Raises LoadTestError where it cannot be run, or a process dies.
        """
        for number, pipe in enumerate(self._pipes):
            self._send(pipe, Job(plan, number, self._count))
        for pipe in self._pipes:
            while not isinstance(message := self._receive(pipe), Ready):
                self._raise_if_broken(message)
        before()
        began = time.monotonic() + _LEAD_S
        self._tell_all(Go(began))
        watched = Watched()
        finished: dict[int, Finished] = {}
        stopped = False
        while len(finished) < self._count:
            waiting = [pipe for number, pipe in enumerate(self._pipes) if number not in finished]
            told = wait(waiting, _POLL_S)
            for number, pipe in enumerate(self._pipes):
                if pipe not in told:
                    continue
                message = self._receive(pipe)
                self._raise_if_broken(message)
                if isinstance(message, Progress):
                    watched.add(number, message)
                elif isinstance(message, Finished):
                    finished[number] = message
            if not stopped and not on_tick(time.monotonic() - began, watched):
                stopped = True
                self._tell_all(Stop())
        return _merged([finished[number] for number in range(self._count)])

    def _tell_all(self, message: Go | Stop) -> None:
        for pipe in self._pipes:
            self._send(pipe, message)

    def _raise_if_broken(self, message: object) -> None:
        if isinstance(message, Broken):
            raise LoadTestError(message.reason)

    def _send(self, pipe: Connection[Any, Any], message: object) -> None:
        try:
            pipe.send(message)
        except OSError as error:
            raise LoadTestError("a client process has ended unexpectedly") from error

    def _receive(self, pipe: Connection[Any, Any]) -> object:
        try:
            message: object = pipe.recv()
        except (EOFError, OSError) as error:
            raise LoadTestError("a client process has ended unexpectedly") from error
        return message


def _merged(parts: list[Finished]) -> Driven:
    return Driven(
        samples=samples.merge([part.samples for part in parts]),
        until_s=max(part.until_s for part in parts),
        cpu=max(part.cpu for part in parts),
        beats=np.concatenate([part.beats for part in parts]),
        repeated=sum(part.repeated for part in parts),
        waited=sum(part.waited for part in parts),
        did=sum((part.did for part in parts), Counter()),
        codes=sum((part.codes for part in parts), Counter()),
    )
