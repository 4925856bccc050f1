"""HTTP/1.1 over connections that are kept, for one process that sends as much as a core allows.

A general client takes longer for a request than a small model does. Here a request is bytes that were prepared, and an
answer is a status and a body. Redirects are not followed: an answer is what the address that was given says.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, cast

import httptools

from loadtest.address import Address

_LENGTH_HEADER = b"inference-header-content-length"
_SWEEP_S = 0.25
# No answer of a classification comes near it: whoever sends more is not to fill this process's memory.
_MOST_BODY_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Reply:
    """What became of a request.

    sent, ended: when it was written and when its answer had been read, or there was to be none.
    status: the HTTP status, 0 where there was no answer.
    json_length: the header Inference-Header-Content-Length; None where it is absent.
    """

    sent: float
    ended: float
    status: int
    body: bytes
    json_length: int | None


class Request(Protocol):
    """A request on its way: the bytes, and who is told in the end, once."""

    content: bytes

    def ended(self, reply: Reply) -> None:
        """Called from the event loop."""


class Channel(Protocol):
    """Sends requests."""

    def send(self, request: Request) -> None:
        """Begin to send a request, or have it wait for a connection."""


class Connections:
    """Connections to one address, as many as are needed at once and at most ``limit``; further requests wait in turn.

    A connection that the server closed while it was not in use is nobody's fault: a request that had not got a byte of
    an answer on one that was used before is sent once more, and `repeated` counts it.

    Args:
        clock: reads seconds.
        timeout_s: a request without an answer for so long is given up.
    """

    def __init__(self, where: Address, now: Callable[[], float], *, limit: int, timeout_s: float) -> None:
        self.now = now
        self.repeated = self.waited = self.most_open = 0
        self._where, self._limit, self._timeout_s = where, limit, timeout_s
        self._ssl = ssl.create_default_context() if where.secure else None
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()
        self._waiting: deque[_Sending] = deque()
        self._opening = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._sweep_later()

    async def open(self, count: int) -> None:
        """Open connections beforehand, so that the first requests need not wait. Raises OSError."""
        await asyncio.gather(*(self._connect() for _ in range(min(count, self._limit))))

    def send(self, request: Request) -> None:
        """See `Channel`."""
        self._begin(_Sending(request, self.now()))

    def close(self) -> None:
        """Close all; what is under way ends without an answer."""
        self._closed = True
        self._sweeping.cancel()
        for task in self._tasks:
            task.cancel()
        self._fail_waiting(len(self._waiting))
        for connection in tuple(self._all):
            connection.abort()

    def _begin(self, sending: _Sending) -> None:
        # The one used last: what is not needed for a while stays idle, and the server may close it any time.
        if self._idle:
            self._idle.pop().start(sending)
            return
        self._waiting.append(sending)
        if len(self._all) + self._opening >= self._limit:
            self.waited += 1
        self._open_if_needed()

    def _open_if_needed(self) -> None:
        """Open a connection for what waits, if none is being opened for it and there may be one more."""
        room = len(self._all) + self._opening < self._limit
        if room and self._opening < len(self._waiting) and not self._closed:
            self._opening += 1
            self._in_background(self._open_one())

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open_one(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._connect()
        except (OSError, TimeoutError):
            # Nobody else may come to serve the one that this was opened for.
            self._fail_waiting(1)
        finally:
            self._opening -= 1
            self._open_if_needed()

    async def _connect(self) -> None:
        _, connection = await self._loop.create_connection(
            lambda: _Connection(self), self._where.host, self._where.port, ssl=self._ssl
        )
        self.free(connection)

    def _fail_waiting(self, count: int) -> None:
        for _ in range(min(count, len(self._waiting))):
            sending = self._waiting.popleft()
            now = self.now()
            sending.request.ended(Reply(sending.sent or now, now, 0, b"", None))

    def _sweep_later(self) -> None:
        self._sweeping = self._loop.call_later(_SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        """Give up what has waited for too long: a timer for each request would cost more than the rest of it."""
        before = self.now() - self._timeout_s
        while self._waiting and self._waiting[0].began < before:
            self._fail_waiting(1)
        for connection in tuple(self._all):
            if connection.sending is not None and connection.sending.began < before:
                connection.give_up()
        self._sweep_later()

    # --- Called by connections ---------------------------------------------------------------------------------------

    def opened(self, connection: _Connection) -> None:
        """It is there, and not free yet."""
        self._all.add(connection)
        self.most_open = max(self.most_open, len(self._all))

    def free(self, connection: _Connection) -> None:
        """It may take a request."""
        if self._closed:
            connection.abort()
        elif self._waiting:
            connection.start(self._waiting.popleft())
        elif connection in self._all:
            self._idle.append(connection)

    def gone(self, connection: _Connection) -> None:
        """It is closed."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._open_if_needed()  # for those that waited for it

    def again(self, sending: _Sending) -> None:
        """Send on another connection."""
        self.repeated += 1
        sending.repeated = True
        self._begin(sending)


class _Sending:
    """A request that was handed over at ``began`` and first written at ``sent``."""

    __slots__ = ("began", "repeated", "request", "sent")

    def __init__(self, request: Request, began: float) -> None:
        self.request = request
        self.began = began
        self.sent: float | None = None
        self.repeated = False


class _Connection(asyncio.Protocol):
    """One connection: one request at a time."""

    def __init__(self, pool: Connections) -> None:
        self.sending: _Sending | None = None
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._used = self._heard = self._complete = False
        self._body = b""
        self._json_length: int | None = None

    def start(self, sending: _Sending) -> None:
        """Write a request."""
        self.sending = sending
        self._heard = self._complete = False
        self._body, self._json_length = b"", None
        if sending.sent is None:
            sending.sent = self._pool.now()
        self._transport.write(sending.request.content)

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def give_up(self) -> None:
        """End its request without an answer."""
        self._heard = True  # whatever comes of closing it, it is not sent again
        self.abort()

    # --- Called by the event loop ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by their class
        self._pool.opened(self)

    def data_received(self, data: bytes) -> None:
        ended = self._pool.now()
        if self.sending is None:  # what nobody asked for
            self.abort()
            return
        self._heard = True
        try:
            self._parser.feed_data(data)
            status = self._parser.get_status_code()
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.abort()
            return
        if self._complete:
            self._finish(status, ended)

    def connection_lost(self, error: Exception | None) -> None:
        self._pool.gone(self)
        sending, self.sending = self.sending, None
        if sending is None:
            return
        if self._used and not self._heard and not sending.repeated:
            self._pool.again(sending)
        else:
            now = self._pool.now()
            sending.request.ended(Reply(sending.sent or now, now, 0, b"", None))

    def _finish(self, status: int, ended: float) -> None:
        sending, self.sending = self.sending, None
        assert sending is not None
        assert sending.sent is not None
        self._used = True
        reply = Reply(sending.sent, ended, status, self._body, self._json_length)
        if self._keeps:
            self._pool.free(self)
        else:
            self.abort()
        sending.request.ended(reply)

    # --- Called by the parser ----------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == _LENGTH_HEADER and value.isdigit() and len(value) < 12:
            self._json_length = int(value)

    def on_body(self, body: bytes) -> None:
        self._body = self._body + body if self._body else body
        if len(self._body) > _MOST_BODY_BYTES:
            self.abort()

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() >= 200:
            self._complete = True
            self._keeps = self._parser.should_keep_alive()
