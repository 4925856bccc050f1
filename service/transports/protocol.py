"""HTTP connections under limits: of uvicorn's protocol, what clients that are slow, silent or many could abuse.

    waiting     for a request: a new or idle connection, or one whose headers are not complete. Timed; where there are
                too many connections, the one that waits longest is cut off.
    busy        from the end of its headers to its answer. The endpoint times the body.
    lingering   refused before its body was read: the answer is sent, nothing more is read, and the client has a moment
                to notice. Closing at once would reset the connection, and the answer could be lost.

A client that does not take its answer is cut off too. Refusals here are problems as everywhere (RFC 9457).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service.problems import HeaderTooLarge, Problem, RequestTimeout, UnreadableRequest
from service.transports import errors
from service.transports.asked import ARRIVED
from service.transports.connections import READ_BYTES, Connections

# What a client may still send of a body that nobody wants, and how long it may take, before it is cut off.
_LEFTOVER_BYTES, _LEFTOVER_S = 64 * 1024, 2.0
_LINGER_S = 1.0
# Requests that came in one go, behind the one that is answered.
_MAX_PIPELINED = 32
# A request of more than this, or of unknown length, may have to be refused before it is read.
_SHORT_BODY_BYTES = 64 * 1024
_LINE_OVERHEAD = len(b": \r\n")


class _HeaderTooLarge(Exception):
    """Ends the parser."""


class Connection(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        connections: Connections,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._all = connections
        self._limits = connections.limits
        self._in_head = False  # of a request whose first byte is here
        self._receiving = False  # its body
        self._ended = False  # whatever else comes is not read
        self._leftover_bytes = 0
        self._silent_bytes = 0  # in headers that are not complete, or behind a body
        self._current: RequestResponseCycle | None = None  # what is being answered; others may wait behind it
        self._waits: asyncio.TimerHandle | None = None
        self._writes: asyncio.TimerHandle | None = None

    # --- From the transport ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._all.opened(self)
        self._time_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever closed it."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # which after an error is left to fire
        self._all.closed(self)
        self._stop(waits=True, writes=True)
        self._ended = True

    def data_received(self, data: bytes) -> None:
        """Read on, as long as what comes is HTTP and within the limits."""
        if self._ended:
            return
        self._unset_keepalive_if_required()
        self._silent_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # What follows could be anything. The request itself is answered as if it had not asked.
            self._ended = True
            self.leave()
        except httptools.HttpParserError as error:
            self._refuse(self._what_is_wrong(error))
        else:
            if self._silent_bytes > self._limits.header_bytes:
                self._refuse(self._header_too_large())
            elif self._waits is None and not self._receiving and not self._is_busy:
                self._time_head()

    def pause_writing(self) -> None:
        """The client does not take its answer as fast as it is made."""
        super().pause_writing()
        self._time_write()

    def resume_writing(self) -> None:
        """It has taken the most of it."""
        super().resume_writing()
        self._stop(writes=True)

    # --- From the parser -------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins, perhaps behind others that came with it."""
        if len(self.pipeline) >= _MAX_PIPELINED:
            raise OverflowError("too many requests at once")
        self._in_head = True
        self._silent_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The request is on its way."""
        headers = self.headers
        size, may_be_refused_unread = len(self.url) + _LINE_OVERHEAD * len(headers), False
        for name, value in headers:
            size += len(name) + len(value)
            if name == b"content-length":
                may_be_refused_unread = len(value) > 9 or int(value) > _SHORT_BODY_BYTES
            elif name == b"transfer-encoding":
                may_be_refused_unread = True
        if size > self._limits.header_bytes or len(headers) > self._limits.headers:
            raise _HeaderTooLarge
        self._in_head = False
        self._receiving = True
        self._silent_bytes = 0
        if self._waits is not None:
            self._stop(waits=True)
        self._all.busy(self)
        self.scope[ARRIVED] = self._all.reads.since()  # type: ignore[literal-required]
        super().on_headers_complete()
        if self._all.leaving:
            self.cycle.keep_alive = False
        if may_be_refused_unread:
            self.cycle.transport = _Lingering(self)  # type: ignore[assignment]
        self.headers = []  # what may follow a body in chunks is none of them

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._silent_bytes = 0
        super().on_body(body)
        cycle = self.cycle
        if len(cycle.body) >= READ_BYTES:
            self.flow.pause_reading()
        if cycle.response_complete:
            self._leftover_bytes -= len(body)
            if self._leftover_bytes < 0:
                self.linger()

    def on_message_complete(self) -> None:
        """The body is here."""
        self._receiving = False
        self._silent_bytes = 0
        super().on_message_complete()
        if self._waits is not None and not self._is_busy:
            self._stop(waits=True)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._current = cycle
        super()._start_asgi_task(cycle, app)

    # --- From the answer -------------------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        """The request is answered."""
        if self._ended:
            self._all.waits(self)
            if self.transport.get_write_buffer_size():
                self._time_write()
            if self._waits is None:
                self.transport.close()
            return
        super().on_response_complete()
        if self._is_busy:
            return
        self._all.waits(self)
        if self.transport.is_closing():
            if self.transport.get_write_buffer_size():
                self._time_write()
        elif self._receiving:
            self._leftover_bytes = _LEFTOVER_BYTES
            self._wait(_LEFTOVER_S, self.linger)

    def timeout_keep_alive_handler(self) -> None:
        """It was idle for too long."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # closing would wait for a client that reads nothing
        else:
            super().timeout_keep_alive_handler()

    # --- Ends ------------------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """End with the next answer."""
        if self._current is not None:
            self._current.keep_alive = False
        for cycle, _ in self.pipeline:
            cycle.keep_alive = False

    def cut_off(self) -> None:
        """End now."""
        self.transport.abort()

    def linger(self) -> None:
        """Read nothing more, send what is to be sent and the end of it, and close a moment later."""
        if not self._receiving or self._ended:
            self.transport.close()
            return
        self._ended = True
        self._unset_keepalive_if_required()
        self.flow.pause_reading()
        if not self.transport.is_closing():
            self.transport.write_eof()
        self._wait(_LINGER_S, self.transport.close)
        self._time_write()

    def _refuse(self, problem: Problem) -> None:
        """Answer what is no request, unless the one before it has yet to be answered: then end with that."""
        self._ended = True
        current = self._current
        if current is not None and not current.response_complete:
            whole = current is not self.cycle or not self._receiving
            self.leave()
            if whole:
                return
            # It is the body that is broken: whoever reads it is told that the client is gone.
            current.disconnected = True
            current.waiting_for_100_continue = False
            current.message_event.set()
            if current.response_started:
                self.transport.close()
                return
        self._all.on_refused(problem)
        response = errors.response(problem, errors.request_id(self.headers or ()))
        headers = [*self.server_state.default_headers, *response.raw_headers, (b"connection", b"close")]
        lines = b"".join(b"%s: %s\r\n" % header for header in headers)
        self.transport.write(b"".join((STATUS_LINE[problem.status], lines, b"\r\n", bytes(response.body))))
        self._ended, self._receiving = False, True  # there may be more of it
        self.linger()

    def _what_is_wrong(self, error: httptools.HttpParserError) -> Problem:
        if isinstance(error.__context__, _HeaderTooLarge):
            return self._header_too_large()
        return UnreadableRequest("this is not HTTP/1.1 as it is read here")

    def _header_too_large(self) -> Problem:
        return HeaderTooLarge(
            f"a request's first line and headers may have {self._limits.header_bytes} bytes, "
            f"and {self._limits.headers} headers"
        )

    # --- Particulars -----------------------------------------------------------------------------------------------

    @property
    def _is_busy(self) -> bool:
        return self._current is not None and not self._current.response_complete

    def _time_head(self) -> None:
        self._wait(self._limits.header_timeout_s, self._head_took_too_long)

    def _head_took_too_long(self) -> None:
        self._waits = None
        if self._in_head:
            self._refuse(RequestTimeout("the request's headers took too long"))
        else:
            self.transport.close()

    def _time_write(self) -> None:
        if self._writes is None:
            self._writes = self.loop.call_later(self._limits.write_timeout_s, self.transport.abort)

    def _wait(self, seconds: float, then: Callable[[], object]) -> None:
        self._stop(waits=True)
        self._waits = self.loop.call_later(seconds, then)

    def _stop(self, *, waits: bool = False, writes: bool = False) -> None:
        if waits and self._waits is not None:
            self._waits.cancel()
            self._waits = None
        if writes and self._writes is not None:
            self._writes.cancel()
            self._writes = None


class _Lingering:
    """A transport for answers to requests whose body may not have been read: it does not reset the connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing

    def close(self) -> None:
        self._connection.linger()


class Reader(asyncio.BufferedProtocol):
    """Hands a connection what comes, in pieces of at most `READ_BYTES`; the event loop's own are eight times that."""

    def __init__(self, connections: Connections, **arguments: Any) -> None:
        self._connection = Connection(connections, **arguments)
        self._buffer = memoryview(connections.buffer)
        self.connection_lost = self._connection.connection_lost  # type: ignore[method-assign]
        self.pause_writing = self._connection.pause_writing  # type: ignore[method-assign]
        self.resume_writing = self._connection.resume_writing  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.BaseProtocol`."""
        self._connection.connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """See `asyncio.BufferedProtocol`."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """See `asyncio.BufferedProtocol`."""
        self._connection.data_received(bytes(self._buffer[:nbytes]))
