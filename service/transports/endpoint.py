"""A bare ASGI endpoint that classifies, whatever the API: read the body, let a subclass answer, count, report errors.

A small network takes less time than a framework's usual path around it: the body is read under a limit, options are
checked once, and the answer is written from plain data in one go.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.routing import BaseRoute, Route, compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from service.handler import Classification, ClassifyRequest, Handler, Instances, Pictures
from service.metrics import CLIENT_GONE, Metrics
from service.observing import Observation, Observer, Outcome
from service.options import Options
from service.problems import NotReady, Problem, UnknownVersion
from service.settings import Settings
from service.transports import errors
from service.transports.access import Access
from service.transports.asked import ARRIVED, asked
from service.transports.bodies import ClientGone, Head, decoded, read_body, read_head
from service.transports.room import Place, Room

T = TypeVar("T")
# Watching a connection takes a twentieth of a small model's request; most are answered before it begins.
_WATCH_AFTER_S = 0.005
# Of a name that a client makes up, as much is logged.
_NAME_CHARACTERS = 64


@dataclass
class Exchange:
    """One request under way; its id is known for good only once the options are read.

    ``caller`` is whose API key it has, ``images`` how many, ``answer`` what it got: each from when it is known.
    """

    scope: Scope
    arrived: float
    id: str
    caller: str | None = None
    images: int | None = None
    answer: Classification | None = None

    @property
    def model(self) -> str:
        """The model that it names."""
        name: str = self.scope["path_params"]["model"]
        return name

    @property
    def version(self) -> int | None:
        """The version, where it names one. Raises UnknownVersion for what is none."""
        return version_number(self.scope["path_params"].get("version"))


@dataclass(frozen=True)
class Reply:
    """An answer's body, and its headers beside length and request id."""

    body: bytes
    headers: Sequence[tuple[bytes, bytes]] = field(default=((b"content-type", b"application/json"),))


class Endpoint(ABC):
    """`POST` to one of two ``paths``, which have ``{model}``, the second ``{version}`` too."""

    paths: tuple[str, str]

    def __init__(
        self, handler: Handler, metrics: Metrics, settings: Settings, access: Access, observer: Observer, room: Room
    ) -> None:
        self.handler = handler
        self._room = room
        self._observer = observer
        self._metrics = metrics
        self._settings = settings
        self._access = access

    async def classify(self, exchange: Exchange, images: Pictures | Instances, options: Options) -> Classification:
        """What the handler answers to a request that was read. Raises a `Problem`."""
        request = ClassifyRequest(exchange.model, exchange.version, images, options, exchange.id, exchange.arrived)
        exchange.images = request.count
        exchange.answer = await self.handler.classify(request)
        return exchange.answer

    @abstractmethod
    async def reply(self, exchange: Exchange, head: Head, body: bytes) -> Reply:
        """Answer a request whose body is here. Raises a `Problem`; any other exception is this server's fault."""

    @abstractmethod
    def problem(self, problem: Problem, identity: str) -> Response:
        """An error in the words of the API."""

    @abstractmethod
    def describe(self, path: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
        """The operation at one of the paths as OpenAPI has it; ``parameters`` are those in the address."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; where the client has gone away, nothing is sent."""
        identity = scope.pop(errors.ID, None) or errors.request_id(scope["headers"])
        exchange = Exchange(scope, scope.get(ARRIVED) or time.perf_counter(), identity)
        seen = self._observer.begin(exchange.arrived, scope["headers"], self._route(exchange))
        code, reason, unforeseen = CLIENT_GONE, "client_gone", None
        self._metrics.began()
        try:
            with self._room.enter() as place:
                answer = await self._answer(exchange, receive, place)
                code, reason = 200, ""
                await _send(send, exchange.id, answer, seen.headers)
        except ClientGone:
            pass  # counted below
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError):
                if not self.handler.draining:
                    raise
                error = NotReady("the server is shutting down")  # there was no more time to wait for it
            # An engine may fail in any way, and the client still gets a problem.
            problem = errors.as_problem(error, exchange.id)
            response = self.problem(problem, exchange.id)
            response.raw_headers.extend(seen.headers)
            code, reason = response.status_code, problem.reason
            unforeseen = None if problem is error else error
            await response(scope, receive, send)
        finally:
            self._metrics.answered(exchange.model, code, reason)
            self._observer.end(seen, code, lambda ended: _outcome(exchange, seen, code, reason, unforeseen, ended))

    def _route(self, exchange: Exchange) -> str:
        return self.paths["version" in exchange.scope["path_params"]]

    async def _answer(self, exchange: Exchange, receive: Receive, place: Place) -> Reply:
        headers, limit = exchange.scope["headers"], self._settings.max_body_bytes
        exchange.caller = self._access.may_classify(headers)
        head = read_head(headers)
        body = await read_body(receive, head.length, limit, self._settings.body_timeout_s, place.hold)
        return await _unless_gone(receive, self._reply(exchange, head, body, limit, place))

    async def _reply(self, exchange: Exchange, head: Head, body: bytes, limit: int, place: Place) -> Reply:
        # Before the body is looked at: who misspelt the model's name is told so.
        self.handler.find(exchange.model, exchange.version)
        if head.encoding:
            body = await self.handler.in_thread(lambda: decoded(body, head.encoding, limit))
            place.hold(len(body))
        return await self.reply(exchange, head, body)


class Shortcut:
    """Middleware that takes requests to classify straight to their endpoints.

    They would reach them by `routes` too, through layers that take an eighth of a small model's time. Middleware that
    is added later lies around this one, and sees them as well.
    """

    def __init__(self, app: ASGIApp, endpoints: Sequence[Endpoint]) -> None:
        self._app = app
        self._paths = [(compile_path(path)[0], endpoint) for endpoint in endpoints for path in endpoint.paths]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on what is not to classify."""
        if scope["type"] == "http" and scope["method"] == "POST":
            for path, endpoint in self._paths:
                if match := path.match(scope["path"]):
                    scope["path_params"] = match.groupdict()
                    return await endpoint(scope, receive, send)
        return await self._app(scope, receive, send)


def routes(endpoints: Sequence[Endpoint]) -> list[BaseRoute]:
    """The endpoints' routes; they stand beside the routers, since they are no functions of FastAPI."""
    return [Route(path, each, methods=["POST"], include_in_schema=False) for each in endpoints for path in each.paths]


def version_number(text: str | None) -> int | None:
    """A version as it stands in an address; None where none is named. Raises UnknownVersion for what is none."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise UnknownVersion(f"a version is a whole number, not {text[:32]!r}")
    return int(text)


async def _unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of work, which is cancelled when the client closes the connection: then ClientGone is raised.

    What takes no longer than `_WATCH_AFTER_S` is done whether the client is still there or not.
    """
    task = asyncio.current_task()
    assert task is not None
    gone = False
    watcher: asyncio.Task[None] | None = None

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    def begin() -> None:
        nonlocal watcher
        watcher = loop.create_task(watch())

    loop = asyncio.get_running_loop()
    timer = loop.call_later(_WATCH_AFTER_S, begin)
    try:
        return await work
    except asyncio.CancelledError:
        # Someone else's cancellation, as at a shutdown, stays one.
        if gone and task.uncancel() == 0:
            raise ClientGone from None
        raise
    finally:
        timer.cancel()
        if watcher is not None:
            watcher.cancel()


def _outcome(
    exchange: Exchange, seen: Observation, code: int, reason: str, error: Exception | None, ended: float
) -> Outcome:
    version = exchange.scope["path_params"].get("version")
    return Outcome(
        id=exchange.id,
        trace=seen.trace,
        asked=asked(exchange.scope),
        status=code,
        reason=reason,
        arrived=exchange.arrived,
        ended=ended,
        model=exchange.model[:_NAME_CHARACTERS],
        version=version and version[:_NAME_CHARACTERS],
        caller=exchange.caller,
        images=exchange.images,
        answer=exchange.answer,
        error=error,
    )


async def _send(send: Send, identity: str, answer: Reply, more: Sequence[tuple[bytes, bytes]]) -> None:
    headers = [
        *answer.headers,
        *more,
        (b"content-length", str(len(answer.body)).encode("ascii")),
        (b"x-request-id", identity.encode("ascii")),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
