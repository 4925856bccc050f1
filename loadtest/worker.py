"""One client process: it is told what to run and when to begin, and gives back what became of it.

It runs nothing else, so that what is shown meanwhile, or written, takes no time from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import math
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt

from loadtest.address import Address
from loadtest.answers import BadAnswer, Expected, read
from loadtest.arrivals import schedule, share
from loadtest.clock import RealClock
from loadtest.connection import Connections, Reply
from loadtest.driver import Driver
from loadtest.errors import LoadTestError
from loadtest.model import Model
from loadtest.pictures import Picture
from loadtest.plan import Closed, Open, Plan
from loadtest.prepared import Prepared, prepare, start_of
from loadtest.progress import Progress, latency_counts
from loadtest.samples import CODES, Log, Samples
from loadtest.unruly import Chaos, Proper, Unruly

if sys.platform != "win32":
    from uvloop import new_event_loop
else:
    from asyncio import new_event_loop

_TELL_S = 0.25
# What is under way when a run is interrupted may still be answered for so long.
_GRACE_S = 5.0
# Connections that are made before an open loop begins; more are made as they are needed.
_READY = 8


@dataclass(frozen=True)
class Setup:
    """What all runs of a process have in common: models and pictures by the models' names."""

    where: Address
    api_key: str | None
    models: Mapping[str, Model]
    pictures: Mapping[str, tuple[Picture, ...]]
    connections: int
    timeout_s: float
    chaos: Chaos | None


@dataclass(frozen=True)
class Job:
    """A run, and which of how many processes this one is."""

    plan: Plan
    process: int
    processes: int


@dataclass(frozen=True)
class Ready:
    """All that can be prepared is."""


@dataclass(frozen=True)
class Go:
    """Begin at this time of `time.monotonic`."""

    began: float


@dataclass(frozen=True)
class Stop:
    """Send nothing more, and come to an end."""


@dataclass(frozen=True)
class Broken:
    """The run cannot be made; the text says why."""

    reason: str


@dataclass(frozen=True)
class Finished:
    """What became of it.

    until_s: when it stopped sending, from the start; cpu: share of a core while requests were counted; beats: how late
    a closed loop's process came to run, in seconds. repeated, waited: requests that were sent anew on another
    connection, and that found none free where there may be no more. did, codes: see `loadtest.unruly.Unruly`.
    """

    samples: Samples
    until_s: float
    cpu: float
    beats: npt.NDArray[np.float64]
    repeated: int
    waited: int
    did: Counter[str]
    codes: Counter[tuple[str, int]]


def main(file: int) -> None:
    """Run what comes through a pipe, by its file descriptor, until it is closed; first comes a `Setup`."""
    # Ctrl-C reaches every process of a terminal; the one that was called decides what follows.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe: Connection[Any, Any] = Connection(file)
    try:
        setup = pipe.recv()
    except EOFError:
        return
    with asyncio.Runner(loop_factory=new_event_loop) as runner, contextlib.suppress(asyncio.CancelledError):
        runner.run(_serve(pipe, setup))


async def _serve(pipe: Connection[Any, Any], setup: Setup) -> None:
    loop, this = asyncio.get_running_loop(), asyncio.current_task()
    assert this is not None
    messages: asyncio.Queue[Job | Go | Stop] = asyncio.Queue()

    def receive() -> None:
        """In a thread: a loop that watches a pipe makes it one that sends only what it has room for."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            try:
                while True:
                    loop.call_soon_threadsafe(messages.put_nowait, pipe.recv())
            except (EOFError, OSError):  # nobody is there any more
                loop.call_soon_threadsafe(this.cancel)

    threading.Thread(target=receive, daemon=True).start()
    while True:
        message = await messages.get()
        if not isinstance(message, Job):  # a stop that came too late
            continue
        try:
            await _Work(message, setup, pipe, messages).run()
        except (LoadTestError, OSError) as error:
            with contextlib.suppress(OSError):  # nobody may be there any more
                pipe.send(Broken(str(error) or type(error).__name__))


class _Work:
    """One run of this process."""

    def __init__(self, job: Job, setup: Setup, pipe: Connection[Any, Any], messages: asyncio.Queue[Any]) -> None:
        self._job, self._plan, self._setup, self._pipe, self._messages = job, job.plan, setup, pipe, messages
        self._log = Log()
        self._told = 0
        self._stopped = math.inf
        self._cpu = [(time.monotonic(), time.process_time())]

    async def run(self) -> None:
        """Raises LoadTestError and OSError where it cannot be."""
        plan, setup = self._plan, self._setup
        prepared = prepare(plan.mix, setup.models, setup.pictures, setup.where, setup.api_key, plan.seed)
        expected = [Expected.of(ask, setup.models[ask.model]) for ask in plan.mix.asks]
        v2 = [ask.api == "v2" for ask in plan.mix.asks]
        limit = max(1, setup.connections // self._job.processes)
        pool = Connections(setup.where, time.monotonic, limit=limit, timeout_s=setup.timeout_s)
        try:
            await pool.open(self._clients() if isinstance(plan.load, Closed) else _READY)
            gc.collect()
            gc.freeze()  # what was prepared lives as long as the run does
            self._pipe.send(Ready())
            go = await self._messages.get()
            if not isinstance(go, Go):
                raise LoadTestError("interrupted before it began")
            unruly = None
            if setup.chaos is not None:
                unruly = Unruly(setup.chaos, setup.where, self._proper(prepared), plan.seed + self._job.process)
            driver = Driver(RealClock(), pool, prepared, expected, v2, self._log, go.began, unruly)
            finished = await self._drive(driver, pool, go.began)
            if unruly is not None:
                await unruly.finish()
                self._count_answers(unruly, expected, v2)
            self._pipe.send(self._finished(finished, driver, pool, unruly))
        finally:
            pool.close()
            gc.unfreeze()

    async def _drive(self, driver: Driver, pool: Connections, began: float) -> float:
        """Let the driver run; when it stopped sending."""
        plan, loop = self._plan, asyncio.get_running_loop()
        timers = [
            loop.call_later(began + at - time.monotonic(), self._read_cpu) for at in (plan.warmup_s, plan.until_s)
        ]
        telling = loop.create_task(self._tell(driver, began))
        listening = loop.create_task(self._listen(driver, pool, began))
        try:
            await self._send(driver)
        finally:
            for timer in timers:
                timer.cancel()
            for task in (telling, listening):
                task.cancel()
            await asyncio.gather(telling, listening, return_exceptions=True)
        self._read_cpu()
        return min(plan.until_s, max(0.0, self._stopped))

    async def _send(self, driver: Driver) -> None:
        plan, process, processes = self._plan, self._job.process, self._job.processes
        most = plan.most_requests
        if isinstance(plan.load, Closed):
            numbers = itertools.count(process, processes) if most is None else range(process, most, processes)
            if clients := self._clients():
                await driver.closed(clients, iter(numbers), plan.until_s)
            return
        if isinstance(plan.load, Open):
            times = schedule(plan.load.steps, plan.load.arrivals, plan.seed)[:most]
            ways = None
        else:
            times = np.array(plan.load.times)[:most]
            ways = plan.load.ways[:most][process::processes]
        times = times[times < plan.until_s]
        numbers = range(process, len(times), processes)
        await driver.open(share(times, process, processes), numbers, ways)

    def _clients(self) -> int:
        """This process's share of a closed loop's clients."""
        assert isinstance(self._plan.load, Closed)
        each, rest = divmod(self._plan.load.concurrency, self._job.processes)
        return each + (self._job.process < rest)

    async def _listen(self, driver: Driver, pool: Connections, began: float) -> None:
        """Stop when told to."""
        await self._messages.get()
        self._stopped = time.monotonic() - began
        driver.stop()
        await asyncio.sleep(_GRACE_S)
        pool.close()

    async def _tell(self, driver: Driver, began: float) -> None:
        while True:
            await asyncio.sleep(_TELL_S)
            self._pipe.send(self._progress(driver.sent, time.monotonic() - began))

    def _progress(self, sent: int, elapsed_s: float) -> Progress:
        due, latencies, outcomes = self._log.since(self._told)
        self._told += len(due)
        answered = outcomes == CODES["answered"]
        missed = 0
        if (limit := self._plan.limit) is not None:
            counted = due >= self._plan.warmup_s
            missed = int((counted & ~(answered & (latencies <= limit.seconds))).sum())
        return Progress(elapsed_s, sent, len(due), int(answered.sum()), missed, latency_counts(latencies[answered]))

    def _proper(self, prepared: Prepared) -> list[Proper]:
        setup = self._setup
        return [
            Proper(ask.model, start_of(ask, setup.where, setup.api_key), prepared.request(way, way)[2])
            for way, ask in enumerate(self._plan.mix.asks)
        ]

    def _count_answers(self, unruly: Unruly, expected: list[Expected], v2: list[bool]) -> None:
        """What was run for unruly clients, the server counts too."""
        for way, answer in unruly.answered:
            reply = Reply(0.0, 0.0, answer.status, answer.body, answer.json_length)
            try:
                images = read(reply, expected[way], v2=v2[way]).images
            except BadAnswer as error:
                self._log.complain(str(error))
                continue
            for image in images:
                for timesteps in image.runs:
                    self._log.runs[way, timesteps] += 1

    def _read_cpu(self) -> None:
        self._cpu.append((time.monotonic(), time.process_time()))

    def _finished(self, until_s: float, driver: Driver, pool: Connections, unruly: Unruly | None) -> Finished:
        # The second reading is that of the warm-up's end, the third of the sending's, where it came so far.
        (first, began), (last, ended) = self._cpu[1:3] if len(self._cpu) > 3 else self._cpu[-2:]
        return Finished(
            samples=self._log.samples(),
            until_s=until_s,
            cpu=(ended - began) / max(last - first, 1e-9),
            beats=np.array(driver.beats),
            repeated=pool.repeated,
            waited=pool.waited,
            did=unruly.did if unruly else Counter(),
            codes=unruly.codes if unruly else Counter(),
        )
