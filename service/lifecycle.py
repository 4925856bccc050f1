"""How a server process ends: one at a time of readiness, listener, connections, queue and engines.

After SIGTERM or SIGINT

1. `/readyz` is 503, and every answer ends its connection; requests are still taken, for a settable time;
2. the listener is closed, with what the kernel had taken for it answered;
3. idle connections get a moment for a request that is on its way, and are closed; what is under way is answered, or
   after a settable time told that it will not be;
4. the app closes: the queue, then the engines.

A second signal ends the process at once, by that signal. One that does not come to its end is ended, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from service.app import Services
from service.signals import SIGNALS, at_once
from service.transports.connections import Connections

# For a request that was sent on an idle connection just before it is closed.
_IDLE_GRACE_S = 0.5
# For what is told at the end of the drain, and for closing engines; then the process is ended.
_LAST_WORDS_S, _CLOSING_S = 2, 15
_POLL_S = 0.02
_log = logging.getLogger("lmht")


class Server(uvicorn.Server):
    """uvicorn's server with an end of its own.

    Args:
        config: uvicorn's; its ``timeout_graceful_shutdown`` is set here.
        services: what is served.
        connections: all of this process.
        delay_s: seconds between the signal and the end of listening.
        drain_s: seconds that what is under way may take then.
        worker: whether a supervisor sends signals, which alone decides that a second one is meant: a terminal or a
            service manager sends its own to every process.
        on_tick: called ten times a second.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        services: Services,
        connections: Connections,
        *,
        delay_s: float,
        drain_s: int,
        worker: bool = False,
        on_tick: Callable[[], None] = lambda: None,
    ) -> None:
        config.timeout_graceful_shutdown = drain_s + _LAST_WORDS_S
        super().__init__(config)
        self._services = services
        self._all = connections
        self._delay_s = delay_s
        self._drain_s = drain_s
        self._worker = worker
        self._on_tick = on_tick
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leaving = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal. Runs between any two instructions of the program."""
        if self._leaving:
            return
        self._leaving = True
        if not self._worker:
            for number in SIGNALS:
                signal.signal(number, at_once())
        if self._loop is None:
            self.should_exit = True
        else:
            self._loop.call_soon_threadsafe(self._leave, sig)

    def leave(self) -> None:
        """As if there had been a signal."""
        self.handle_exit(signal.SIGTERM, None)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    async def on_tick(self, counter: int) -> bool:
        """See `uvicorn.Server`."""
        self._on_tick()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Steps 2 to 4."""
        for listener in sockets or []:
            await self._accept_last(listener)
        loop = asyncio.get_running_loop()
        giving_up = loop.call_later(self._drain_s, self._services.give_up)
        until = loop.time() + min(_IDLE_GRACE_S, self._drain_s)
        while self._all.waiting and loop.time() < until:
            await asyncio.sleep(_POLL_S)
        try:
            await super().shutdown(sockets)
        finally:
            giving_up.cancel()

    def _leave(self, sig: int) -> None:
        """Step 1."""
        # What was still being loaded had not made the server ready, so that nobody waits for it to be left alone.
        delay_s = self._delay_s if self._services.models.ready else 0.0
        self._services.leave()
        self._all.leave()
        again = "" if self._worker else "; another signal ends it at once"
        _log.info("%s: no longer ready, listening for %g s more%s", signal.Signals(sig).name, delay_s, again)
        faulthandler.dump_traceback_later(delay_s + self._drain_s + _LAST_WORDS_S + _CLOSING_S, exit=True)
        assert self._loop is not None
        self._loop.call_later(delay_s, self._stop)

    def _stop(self) -> None:
        self.should_exit = True

    async def _accept_last(self, listener: socket.socket) -> None:
        """Close a listener, and serve what has connected by then: it would be reset."""
        loop = asyncio.get_running_loop()
        accepted = []
        with contextlib.suppress(OSError):  # BlockingIOError: that was all
            while True:
                accepted.append(listener.accept()[0])
        for server in self.servers:
            server.close()
        listener.close()
        for connection in accepted:
            connection.setblocking(False)
            await loop.connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> asyncio.BaseProtocol:
        made: asyncio.BaseProtocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made
