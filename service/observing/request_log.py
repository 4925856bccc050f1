"""A line of the log for a share of the requests, and for those that went wrong."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from service import logs
from service.logs import Value
from service.metrics import CLIENT_GONE
from service.observing.outcome import Outcome
from service.observing.trace_context import TraceContext

# Of requests that are logged for what became of them, so many a second: under overload that may be most of them.
_PER_SECOND = 10.0
_SERVER_ERROR, _OUR_FAULT = 500, 500
_log = logging.getLogger("lmht.requests")


class RequestLog:
    """Chooses requests and writes their lines; each gets one at most.

    Args:
        share: of all requests, 0 to 1. Above 0 those of a trace that its caller may record are logged too.
        slow_s: requests that take longer are logged, whatever the share; None for none.
        ration: how many a second that were not chosen at their arrival.
        draw: a random number in [0, 1) for each request.
    """

    def __init__(
        self,
        share: float,
        slow_s: float | None,
        ration: Ration | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._share = share
        self._slow_s = slow_s
        self._ration = ration or Ration(_PER_SECOND)
        self._draw = draw
        self._left_out = 0

    def chooses(self, parent: TraceContext | None) -> bool:
        """Whether a request that has just arrived gets a line."""
        if not self._share:
            return False
        return (parent is not None and parent.sampled) or self._draw() < self._share

    def is_remarkable(self, status: int, total_s: float) -> bool:
        """Whether a request should have a line for what became of it."""
        return status >= _SERVER_ERROR or (self._slow_s is not None and total_s > self._slow_s)

    def write(self, outcome: Outcome, *, chosen: bool) -> None:
        """Write a request's line, unless it is one of too many; what was our fault always has one."""
        if not chosen and outcome.status != _OUR_FAULT and not self._ration.take():
            self._left_out += 1
            return
        level = logging.INFO
        if outcome.status >= _SERVER_ERROR:
            level = logging.ERROR if outcome.status == _OUR_FAULT else logging.WARNING
        if not _log.isEnabledFor(level):
            return
        left_out, self._left_out = self._left_out, 0
        _log.log(
            level,
            "request %s: %s %s %d in %.3g ms%s",
            outcome.id,
            outcome.asked.method,
            outcome.asked.path,
            outcome.status,
            outcome.total_s * 1000,
            f", {outcome.reason}" if outcome.reason else "",
            exc_info=outcome.error,
            extra=logs.fields({**_fields(outcome), "left_out": left_out or None}),
        )


class Ration:
    """Lets so many a second through, and as many at once."""

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = self._left = per_second
        self._clock = clock
        self._last = clock()

    def take(self) -> bool:
        """Whether there is one."""
        now = self._clock()
        self._left = min(self._per_second, self._left + (now - self._last) * self._per_second)
        self._last = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def _fields(outcome: Outcome) -> dict[str, Value]:
    trace, answer = outcome.trace, outcome.answer
    found: dict[str, Value] = {
        "request_id": outcome.id,
        "trace_id": trace.trace_id if trace else None,
        "span_id": trace.span_id if trace else None,
        "method": outcome.asked.method,
        "path": outcome.asked.path,
        "status": outcome.status,
        "reason": outcome.reason or None,
        "client": outcome.asked.client,
        "client_gone": True if outcome.status == CLIENT_GONE else None,
        "key": outcome.caller,
        "model": outcome.model or None,
        "version": outcome.version,
        "images": outcome.images,
        "total_ms": _ms(outcome.total_s),
    }
    if answer is not None:
        found |= {
            "version": str(answer.served.version),
            "timesteps": int(answer.timesteps.max()),
            "budget_reason": answer.passes[-1].reason,
            "passes": len(answer.passes),
            "batch_size": answer.passes[0].batch_size,
            "decode_ms": _ms(answer.decode_s),
            "queue_ms": _ms(answer.queue_s),
            "compute_ms": _ms(answer.compute_s),
        }
    return found


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
