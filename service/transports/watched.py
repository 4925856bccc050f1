"""Middleware around everything but requests to classify, which see to this themselves: logged, and part of a trace."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.observing import Observation, Observer, Outcome
from service.transports import errors
from service.transports.asked import asked

# Asked every few seconds by machines, which say themselves what came of it.
_PROBES = frozenset({"/livez", "/readyz", "/metrics"})


class Watched:
    """Has requests logged, answers what nobody foresaw, and writes the trace into the answer's headers.

    Args:
        app: what it is around.
        observer: who logs.
        answer: makes an answer of any error.
    """

    def __init__(
        self, app: ASGIApp, observer: Observer, answer: Callable[[Request, Exception], Awaitable[Response]]
    ) -> None:
        self._app = app
        self._observer = observer
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and watch what becomes of it."""
        if scope["type"] != "http" or scope["path"] in _PROBES:
            return await self._app(scope, receive, send)
        scope[errors.ID] = errors.request_id(scope["headers"])
        seen = self._observer.begin(time.perf_counter(), scope["headers"])
        status, unforeseen = 0, None

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start" and errors.ID in scope:
                status = message["status"]
                message["headers"] = [*message["headers"], *seen.headers]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception as error:
            if status or errors.ID not in scope:  # too late for another answer
                raise
            unforeseen = error
            await (await self._answer(Request(scope), error))(scope, receive, sending)
        finally:
            # An endpoint to classify, reached below a prefix, has taken it over.
            if status and errors.ID in scope:
                self._observer.end(seen, status, lambda ended: _outcome(scope, seen, status, unforeseen, ended))
        return None


def _outcome(scope: Scope, seen: Observation, status: int, error: Exception | None, ended: float) -> Outcome:
    return Outcome(
        id=scope[errors.ID],
        trace=seen.trace,
        asked=asked(scope),
        status=status,
        reason="",
        arrived=seen.arrived,
        ended=ended,
        error=error,
    )
