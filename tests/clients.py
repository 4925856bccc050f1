"""Both clients behind one face, and a clock that nobody waits for."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from service.client import AsyncClient, Client
from service.client._server import Clock
from service.transports.examples import EXAMPLES
from tests.serving import RunningApp

Answer = Callable[[httpx.Request], httpx.Response]
KINDS = ("sync", "async")
Step = Exception | Callable[[], httpx.Response]


class Time:
    """A clock that goes on only where something waits, or a test moves it; what is drawn by chance is the most."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.waits: list[float] = []
        self.clock = Clock(
            now_s=lambda: self.now_s,
            date_s=lambda: 1_800_000_000.0 + self.now_s,
            sleep=self.sleep,
            sleep_async=self._sleep_async,
            uniform=lambda low, high: high,
        )

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now_s += seconds

    async def _sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)


class _Blocking:
    """An `AsyncClient` whose calls are run to their ends."""

    def __init__(self, client: AsyncClient, run: Callable[[Any], Any]) -> None:
        self._client = client
        self._run = run

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *arguments, **options: self._run(method(*arguments, **options))


@contextmanager
def opened(kind: str, answer: Answer, **changed: Any) -> Iterator[Any]:
    """A client of a server that ``answer`` is."""
    arguments: dict[str, Any] = {
        "url": "http://server",
        "transport": httpx.MockTransport(answer),
        "clock": Time().clock,
        **changed,
    }
    if kind == "sync":
        with Client(**arguments) as client:
            yield client
        return
    with asyncio.Runner() as runner:
        asynchronous = AsyncClient(**arguments)
        runner.run(asynchronous.__aenter__())
        yield _Blocking(asynchronous, runner.run)
        runner.run(asynchronous.__aexit__(None, None, None))


class ThroughApp(httpx.BaseTransport):
    """Requests to an app that runs in a thread."""

    def __init__(self, running: RunningApp) -> None:
        self._running = running

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._running.request(
            request.method, str(request.url), headers=dict(request.headers), content=request.read()
        )
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


class Server:
    """Answers with one step after the other, the last one for ever."""

    def __init__(self, *steps: Step) -> None:
        self._steps = steps
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        step = self._steps[min(len(self.requests), len(self._steps) - 1)]
        self.requests.append(request)
        if isinstance(step, Exception):
            raise step
        return step()

    def deadlines_ms(self) -> list[float]:
        """What each request's form said."""
        found = [re.search(rb'"deadline_ms"\r\n\r\n([0-9.e+-]+)\r\n', request.content) for request in self.requests]
        return [float(match[1]) for match in found if match]


def said(status: int, **headers: str) -> Callable[[], httpx.Response]:
    """A problem, anew each time."""
    return lambda: httpx.Response(
        status,
        json=EXAMPLES[f"problem-{status}"],
        headers={name.replace("_", "-"): text for name, text in headers.items()},
    )


def fine() -> httpx.Response:
    return httpx.Response(200, json=EXAMPLES["classify"])


def entries() -> httpx.Response:
    return httpx.Response(200, json=[])
