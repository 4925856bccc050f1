"""A load test on a simulated clock, against a server whose behaviour is written down."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from loadtest.address import Address
from loadtest.answers import Expected
from loadtest.arrivals import schedule
from loadtest.asks import Ask, Mix
from loadtest.connection import Reply, Request
from loadtest.driver import Driver
from loadtest.plan import Closed, Open, Plan
from loadtest.prepared import prepare
from loadtest.processes import Driven
from loadtest.record import Run
from loadtest.samples import Log
from loadtest.tally import run as tallied
from service.simulation.clock import SimulatedLoop, simulate
from tests.loadtest.stub import MODEL, PICTURES, answer_to

WHERE = Address("127.0.0.1", 1, False, "")


class Clock:
    """The simulated loop's time."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        self.loop = loop

    def now(self) -> float:
        return self.loop.now

    def alarm(self, then: Callable[[], None]) -> Alarm:
        return Alarm(self.loop, then)


class Alarm:
    def __init__(self, loop: SimulatedLoop, then: Callable[[], None]) -> None:
        self._loop, self._then = loop, then
        self._handle: asyncio.TimerHandle | None = None

    def at(self, when: float) -> None:
        self.close()
        self._handle = self._loop.call_at(when, self._then)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()


@dataclass(frozen=True)
class Server:
    """Serves in order, one request at a time (or all at once, where ``parallel``), each for ``service_s`` seconds.

    ``stalled`` is a time from when to when nothing is served. Of every so many, ``refuses`` is refused at once.
    ``costs_s`` is what sending a request takes the client, which can do nothing else meanwhile.
    """

    service_s: Callable[[], float]
    parallel: bool = False
    stalled: tuple[float, float] = (0.0, 0.0)
    refuses: int | None = None
    costs_s: float = 0.0


class Channel:
    """Sends to such a server."""

    def __init__(self, clock: Clock, server: Server) -> None:
        self._clock, self._server = clock, server
        self._free = 0.0
        self._numbers = itertools.count(1)

    def send(self, request: Request) -> None:
        self._clock.loop.now += self._server.costs_s
        sent, server = self._clock.now(), self._server
        if server.refuses and next(self._numbers) % server.refuses == 0:
            return self._end(request, sent, sent, 429)
        start = sent if server.parallel else max(sent, self._free)
        if server.stalled[0] <= start < server.stalled[1]:
            start = server.stalled[1]
        ended = start + server.service_s()
        if server.stalled[0] < ended and start < server.stalled[0]:
            ended += server.stalled[1] - server.stalled[0]
        self._free = ended
        return self._end(request, sent, ended, 200)

    def _end(self, request: Request, sent: float, ended: float, status: int) -> None:
        path = request.content.split(b" ", 2)[1].decode()
        body = answer_to(path) if status == 200 else b"{}"
        self._clock.loop.call_at(ended, lambda: request.ended(Reply(sent, self._clock.now(), status, body, None)))


def drive(plan: Plan, server: Server) -> Driven:
    """What becomes of a plan whose requests have one image each."""

    async def work() -> Driven:
        clock, log = Clock(), Log()
        models = {ask.model: replace(MODEL, name=ask.model) for ask in plan.mix.asks}
        prepared = prepare(plan.mix, models, dict.fromkeys(models, PICTURES), WHERE, None, plan.seed)
        expected = [Expected.of(ask, models[ask.model]) for ask in plan.mix.asks]
        driver = Driver(clock, Channel(clock, server), prepared, expected, [False] * len(expected), log, 0.0)
        if isinstance(plan.load, Closed):
            await driver.closed(plan.load.concurrency, itertools.count(), plan.until_s)
        elif isinstance(plan.load, Open):
            times = schedule(plan.load.steps, plan.load.arrivals, plan.seed)
            await driver.open(times, range(len(times)))
        else:
            await driver.open(np.array(plan.load.times), range(len(plan.load.times)), plan.load.ways)
        return Driven(log.samples(), plan.until_s, 0.0, np.array(driver.beats), 0, 0, Counter(), Counter())

    return simulate(work())


def run(plan: Plan, server: Server) -> Run:
    """The run of it."""
    return tallied(plan, drive(plan, server), 1)


def asking(timesteps: int = 1, **options: Any) -> Mix:
    return Mix.of(Ask(MODEL.name, timesteps, **options))


def exactly(seconds: float) -> Callable[[], float]:
    return lambda: seconds


def quantiles(run: Run, shares: Sequence[float]) -> list[float]:
    found = [run.latency.quantile_s(share) for share in shares]
    assert None not in found
    return [seconds for seconds in found if seconds is not None]
