"""The connections of a process: how many there may be, which of them makes room, and what ends with all of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from service.lag import Reads
from service.problems import Problem

# What one read may bring. Two may wait to be looked at, so that a body is cut off at most twice this above its limit.
READ_BYTES = 32 * 1024


@dataclass(frozen=True)
class ConnectionLimits:
    """See `service.settings`; times in seconds."""

    connections: int
    header_bytes: int
    headers: int
    header_timeout_s: float
    write_timeout_s: float


class Closable(Protocol):
    """What is known of a connection here."""

    def leave(self) -> None:
        """End with the next answer."""

    def cut_off(self) -> None:
        """End now."""


class Connections:
    """All connections of a process. ``on_refused`` is called with each problem that is answered here."""

    def __init__(self, limits: ConnectionLimits, on_refused: Callable[[Problem], None] = lambda problem: None) -> None:
        self.limits = limits
        self.on_refused = on_refused
        self.leaving = False
        self._open: set[Closable] = set()
        # Those that wait, the one that has for longest first.
        self._waiting: dict[Closable, None] = {}
        self.reads = Reads(time.perf_counter, time.thread_time)
        # Whatever is read is copied out before the next read.
        self.buffer = bytearray(READ_BYTES)

    def __len__(self) -> int:
        return len(self._open)

    @property
    def waiting(self) -> int:
        """How many have no request under way."""
        return len(self._waiting)

    def leave(self) -> None:
        """From now on each connection ends with its next answer."""
        self.leaving = True
        for connection in self._open:
            connection.leave()

    def opened(self, connection: Closable) -> None:
        """There is a new one, which waits; it may be the one that is cut off."""
        self._open.add(connection)
        self._waiting[connection] = None
        if len(self._open) > self.limits.connections:
            longest = next(iter(self._waiting))
            self.closed(longest)
            longest.cut_off()

    def closed(self, connection: Closable) -> None:
        """It is gone."""
        self._open.discard(connection)
        self._waiting.pop(connection, None)

    def busy(self, connection: Closable) -> None:
        """It has a request."""
        self._waiting.pop(connection, None)

    def waits(self, connection: Closable) -> None:
        """It has none any more."""
        if connection in self._open:
            self._waiting[connection] = None
