"""Decides, for each request, whether it gets a line in the log and spans, and sees to both."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.observing import trace_context
from service.observing.outcome import Outcome
from service.observing.request_log import RequestLog
from service.observing.trace_context import Headers, TraceContext
from service.settings import Settings

if TYPE_CHECKING:
    from service.observing.tracing import SpanOfRequest, Tracing

_UNTRACED: list[tuple[bytes, bytes]] = []


@dataclass(frozen=True)
class Observation:
    """One request under way.

    ``arrived`` is by `time.perf_counter`; ``trace`` is this server's span in the trace that the request is part of,
    None where it is part of none; ``logged`` is whether it gets a line whatever becomes of it.
    """

    arrived: float
    trace: TraceContext | None
    logged: bool
    span: SpanOfRequest | None

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """What the answer's headers say of the trace."""
        return self.trace.headers if self.trace else _UNTRACED


class Observer:
    """Logs and traces requests as the settings ask for.

    Args:
        settings: all of them.
        version: the server's own.
        tracing: used instead of what the settings ask for.
    """

    def __init__(self, settings: Settings, version: str, tracing: Tracing | None = None) -> None:
        self._settings = settings
        self._version = version
        self._tracing = tracing
        slow_ms = settings.log_slow_ms
        self._log = RequestLog(settings.log_requests, None if slow_ms is None else slow_ms / 1000)

    def start(self) -> None:
        """Begin to send spans, where that is asked for."""
        if self._settings.tracing and self._tracing is None:
            from service.observing.tracing import Tracing

            self._tracing = Tracing(self._version)

    def close(self) -> None:
        """Send what spans are left; takes some seconds where they cannot be delivered."""
        if self._tracing is not None:
            self._tracing.close()

    def begin(self, arrived: float, headers: Headers, route: str = "") -> Observation:
        """A request has arrived; ``route`` is the pattern of its address where it asks for a classification."""
        parent, heard = trace_context.received(headers)
        logged = self._log.chooses(parent)
        if self._tracing is not None and route:
            span = self._tracing.begin(parent, route)
            return Observation(arrived, span.context, logged, span)
        if parent is not None:
            return Observation(arrived, parent.child(), logged, None)
        return Observation(arrived, trace_context.new() if heard or logged else None, logged, None)

    def end(self, seen: Observation, status: int, outcome: Callable[[float], Outcome]) -> None:
        """A request is over; ``outcome`` says what became of it by a time, and is called only if somebody is told."""
        ended = time.perf_counter()
        recorded = seen.span is not None and seen.span.is_recording
        remarkable = self._log.is_remarkable(status, ended - seen.arrived)
        if not (seen.logged or recorded or remarkable):
            return
        told = outcome(ended)
        if seen.span is not None and recorded:
            seen.span.end(told)
        if seen.logged or remarkable:
            self._log.write(told, chosen=seen.logged)
