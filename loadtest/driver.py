"""Sends the requests of one process in time, and takes down what becomes of them.

An open loop sends at the times of a schedule and waits for no answer: a request that the client comes to late, or that
finds no connection free, is counted from when it was to be sent. In a closed loop each client sends when it has its
answer: there, when a request was to be sent is when it was, and a server that stalls is asked less meanwhile. What that
hides is what an open loop shows.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from loadtest.answers import BadAnswer, Expected, outcome, read
from loadtest.arrivals import Times
from loadtest.clock import Clock
from loadtest.connection import Channel, Reply
from loadtest.prepared import Prepared
from loadtest.samples import Log

# A client of a closed loop that got no answer waits before it asks again.
_PAUSE_S = 0.05
# A client that is behind sends no more than so many before it reads what has come meanwhile.
_AT_ONCE = 16
# How often a closed loop looks whether it gets to run when it wants to.
_BEAT_S = 0.01


class Beside(Protocol):
    """What is to be done beside each request, such as an unruly client now and then."""

    def __call__(self) -> None:
        """Called as often as a request is sent."""


class Driver:
    """Drives one run.

    Args:
        clock: says when; everything is counted from ``began`` on it.
        channel: sends.
        prepared: what is sent.
        expected: what the answers must look like, for each way of asking.
        v2: whether a way asks by the Open Inference Protocol.
        log: takes it down.
        beside: called with each request.
    """

    def __init__(
        self,
        clock: Clock,
        channel: Channel,
        prepared: Prepared,
        expected: Sequence[Expected],
        v2: Sequence[bool],
        log: Log,
        began: float,
        beside: Beside | None = None,
    ) -> None:
        self.beats = array("d")  # of a closed loop: by how much it came late to run
        self.sent = 0
        self._clock, self._channel, self._prepared, self._log = clock, channel, prepared, log
        self._expected, self._v2, self._began, self._beside = expected, v2, began, beside
        self._under_way = self._clients = 0
        self._stopped = False
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def stop(self) -> None:
        """Send nothing more; `open` and `closed` return when what is under way has ended."""
        self._stopped = True
        self._check_done()

    async def open(self, times: Times, numbers: Sequence[int], ways: Sequence[int] | None = None) -> None:
        """Send at these times, in seconds from the start, ascending, the requests of these numbers.

        ``ways`` says by which way each asks; unless given, that is by turns.
        """
        due = (times + self._began).tolist()
        following, total = 0, len(due)

        def wake() -> None:
            nonlocal following
            now = self._clock.now()
            most = following + _AT_ONCE
            while following < min(total, most) and due[following] <= now and not self._stopped:
                way = None if ways is None else ways[following]
                self._send(numbers[following], way, due[following], now, self._ended)
                following += 1
                now = self._clock.now()
            if following < total and not self._stopped:
                alarm.at(due[following])
            else:
                self._stopped = True
                self._check_done()

        alarm = self._clock.alarm(wake)
        try:
            alarm.at(due[0] if due else self._began)
            await self._done
        finally:
            alarm.close()

    async def closed(self, clients: int, numbers: Iterator[int], until_s: float) -> None:
        """Let so many clients, at least one, send one request after the other for so many seconds.

        Each request takes the next number; when there is none left, that is the end too.
        """
        each = [_Client(self, numbers, self._began + until_s) for _ in range(clients)]
        self._clients = clients
        due = self._began + _BEAT_S

        def begin() -> None:
            for client in each:
                client.send()

        def tick() -> None:
            nonlocal due
            now = self._clock.now()
            self.beats.append(now - due)
            due = now + _BEAT_S
            beat.at(due)

        start, beat = self._clock.alarm(begin), self._clock.alarm(tick)
        try:
            start.at(self._began)
            beat.at(due)
            await self._done
        finally:
            start.close()
            beat.close()

    def next_of(self, client: _Client) -> None:
        """A client of a closed loop sends its next request, or is through."""
        now = self._clock.now()
        number = next(client.numbers, None) if not self._stopped and now < client.until else None
        if number is not None:
            self._send(number, None, now, now, client.answered)
            return
        self._clients -= 1
        if not self._clients:
            self.stop()

    def _send(self, number: int, way: int | None, due: float, now: float, then: Callable[[int], None]) -> None:
        way, group, content = self._prepared.request(number, way)
        self._under_way += 1
        self.sent += 1
        self._channel.send(_Request(self, number, way, group, content, due, now, then))
        if self._beside is not None:
            self._beside()

    def ended(self, request: _Request, reply: Reply) -> None:
        """Take down what became of a request."""
        began, way, status = self._began, request.way, reply.status
        became, answer = outcome(status), None
        if status == 200:
            try:
                answer = read(reply, self._expected[way], v2=self._v2[way])
            except BadAnswer as error:
                became = "failed"
                self._log.complain(str(error))
        times = (request.due - began, request.handed - began, reply.sent - began, reply.ended - began)
        labels = self._prepared.labels[way][request.group]
        self._log.request(request.number, way, len(labels), times, status, became, answer, labels)
        self._under_way -= 1
        request.then(status)

    def _ended(self, status: int) -> None:
        self._check_done()

    def _check_done(self) -> None:
        if self._stopped and not self._under_way and not self._done.done():
            self._done.set_result(None)


class _Client:
    """One of a closed loop's: one request after the other until the time is up."""

    def __init__(self, driver: Driver, numbers: Iterator[int], until: float) -> None:
        self.numbers, self.until = numbers, until
        self._driver = driver

    def send(self) -> None:
        """Send the next request."""
        self._driver.next_of(self)

    def answered(self, status: int) -> None:
        """Go on after an answer, or after none."""
        if status == 0:
            asyncio.get_running_loop().call_later(_PAUSE_S, self.send)
        else:
            self.send()


class _Request:
    """A request on its way."""

    __slots__ = ("_driver", "content", "due", "group", "handed", "number", "then", "way")

    def __init__(
        self,
        driver: Driver,
        number: int,
        way: int,
        group: int,
        content: bytes,
        due: float,
        handed: float,
        then: Callable[[int], None],
    ) -> None:
        self._driver, self.number, self.way, self.group = driver, number, way, group
        self.content, self.due, self.handed, self.then = content, due, handed, then

    def ended(self, reply: Reply) -> None:
        """See `loadtest.connection.Request`."""
        self._driver.ended(self, reply)
