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

from service.handler import Handler
from service.metrics import CLIENT_GONE, Metrics
from service.problems import Problem, UnknownVersion
from service.settings import Settings
from service.transports import errors
from service.transports.access import Access
from service.transports.bodies import ClientGone, Head, decoded, read_body, read_head

T = TypeVar("T")
# Watching a connection takes a twentieth of a small model's request; most are answered before it begins.
_WATCH_AFTER_S = 0.005


@dataclass
class Exchange:
    """One request under way; its id is known for good only once the options are read."""

    scope: Scope
    arrived: float
    id: str

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
    """`POST` to one of ``paths``, which have ``{model}`` and may have ``{version}``."""

    paths: tuple[str, ...]

    def __init__(self, handler: Handler, metrics: Metrics, settings: Settings, access: Access) -> None:
        self.handler = handler
        self._metrics = metrics
        self._settings = settings
        self._access = access

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
        exchange = Exchange(scope, time.perf_counter(), errors.request_id(scope["headers"]))
        code, reason = CLIENT_GONE, "client_gone"
        try:
            answer = await self._answer(exchange, receive)
            code, reason = 200, ""
            await _send(send, exchange.id, answer)
        except ClientGone:
            pass  # counted below
        except Exception as error:  # an engine may fail in any way, and the client still gets a problem
            problem = errors.as_problem(error, exchange.id)
            response = self.problem(problem, exchange.id)
            code, reason = response.status_code, problem.slug.replace("-", "_")
            await response(scope, receive, send)
        finally:
            self._metrics.answered(exchange.model, code, reason)

    async def _answer(self, exchange: Exchange, receive: Receive) -> Reply:
        headers, limit = exchange.scope["headers"], self._settings.max_body_bytes
        self._access.may_classify(headers)
        head = read_head(headers)
        body = await read_body(receive, head.length, limit)
        return await _unless_gone(receive, self._reply(exchange, head, body, limit))

    async def _reply(self, exchange: Exchange, head: Head, body: bytes, limit: int) -> Reply:
        # Before the body is looked at: who misspelt the model's name is told so.
        self.handler.find(exchange.model, exchange.version)
        if head.encoding:
            body = await self.handler.in_thread(lambda: decoded(body, head.encoding, limit))
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


async def _send(send: Send, identity: str, answer: Reply) -> None:
    headers = [
        *answer.headers,
        (b"content-length", str(len(answer.body)).encode("ascii")),
        (b"x-request-id", identity.encode("ascii")),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
