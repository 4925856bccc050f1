"""One call from its first request to its answer, without a network and told the time.

attempts = Attempts(call, server)
while True:
    request = attempts.request(http)
    … send it …
    verdict = attempts.answered(response)    # or attempts.failed(error)
    … return verdict.answer, or wait verdict.wait_s seconds …
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

import httpx
from pydantic import ValidationError

from service.client._answers import read_error, unexpected
from service.client._calls import Answer, Call
from service.client._errors import ClientError, NoAnswer, TimedOut, UnexpectedAnswer
from service.client._retries import retry_after_s
from service.client._server import Server

# Not now, says the server: what it refused it has not begun.
_LATER = frozenset({429, 503})
# Nothing of the request can have arrived.
_NEVER_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_BROKEN = (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError, httpx.ProxyError)
# A host that does not take the connection in this time may take the next one.
_CONNECT_S = 10.0
# The timers of some systems overflow somewhere beyond that.
_LONGEST_S = 86_400.0


@dataclass(frozen=True)
class Done(Generic[Answer]):
    """There is an answer."""

    answer: Answer


@dataclass(frozen=True)
class Again:
    """The call is to be repeated after ``wait_s`` seconds."""

    wait_s: float


class Attempts(Generic[Answer]):
    """Decides what follows on each answer and each failure. All methods raise what the call ends with."""

    def __init__(self, call: Call[Answer], server: Server) -> None:
        self._call = call
        self._server = server
        self._clock = server.clock
        # What is no deadline goes to the server, which says what is wrong with it.
        self._hurried = call.deadline_ms is not None and call.deadline_ms > 0
        limit_s = (call.deadline_ms or 0.0) / 1000 if self._hurried else server.timeout_s
        self._began = self._clock.now_s()
        self._ends = self._began + min(limit_s, _LONGEST_S)
        self._sent = 0
        self._said: ClientError | None = None

    @property
    def left_s(self) -> float:
        """Seconds until the call ends, whatever has happened by then."""
        return self._ends - self._clock.now_s()

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """The next request."""
        left_s = self.left_s
        if self._said is not None and left_s <= 0:
            raise self._said
        deadline_ms = self._call.deadline_ms
        if self._sent and self._hurried:
            deadline_ms = max(0.001, round(left_s * 1000, 3))
        self._sent += 1
        body = self._call.body(deadline_ms)
        return http.build_request(
            self._call.method,
            self._call.path,
            **body | {"headers": body.get("headers", {}) | self._server.headers(self._call)},
            timeout=httpx.Timeout(left_s, connect=min(left_s, _CONNECT_S)),
        )

    def answered(self, response: httpx.Response) -> Done[Answer] | Again:
        """What follows on an answer, which has been read."""
        status = response.status_code
        if read := self._call.reads.get(status):
            try:
                return Done(read(response.content))
            except ValidationError as error:
                raise unexpected(self._server.url, status) from error
        said = read_error(self._server.url, self._call.path, response)
        if status not in _LATER or not self._call.repeatable:
            raise said
        return self._again(said, retry_after_s(response.headers, self._clock.date_s()))

    def failed(self, error: Exception) -> Again:
        """What follows on an error of httpx, or on a TimeoutError."""
        url = self._server.url
        if isinstance(error, httpx.DecodingError):
            raise UnexpectedAnswer(f"{url} answered, but what cannot be decoded: {error}", None) from error
        kind, reason = NoAnswer, str(error) or type(error).__name__
        if isinstance(error, TimeoutError | httpx.TimeoutException):
            kind = NoAnswer if isinstance(error, _NEVER_CONNECTED) else TimedOut
            reason = f"timed out after {self._clock.now_s() - self._began:.3g} s"
        said = kind(f"no answer from {url}: {reason}")
        said.__cause__ = error
        if not isinstance(error, _BROKEN if self._call.repeatable else _NEVER_CONNECTED):
            raise said
        return self._again(said, None)

    def _again(self, said: ClientError, wait_s: float | None) -> Again:
        """The next attempt, after ``wait_s`` where the server named it; where there is none, what was said last."""
        retries = self._server.retries
        if wait_s is None:
            wait_s = retries.backoff_s(self._sent, self._clock.uniform)
        if self._sent >= retries.attempts or wait_s >= self.left_s:
            raise said
        self._said = said
        return Again(wait_s)
