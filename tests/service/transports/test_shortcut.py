"""Requests to classify go straight to their endpoint, and are answered there as by the longer way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.types import Message, Receive, Scope, Send

from service.app import create_app
from service.settings import Settings
from service.transports.asked import ARRIVED
from tests import tiny
from tests.images import encode
from tests.serving import RunningApp

PATH = "/v1/models/tiny/classify"
PICTURE = encode((tiny.images(1, seed=5)[0, 0] * 255).astype(np.uint8))


class Spy:
    """Middleware that a deployment adds: sees what goes in, and writes a header into what comes out."""

    def __init__(self, app: Any, seen: list[str]) -> None:
        self.app, self.seen = app, seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.seen.append(scope["path"])

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-spy", b"1")]
            await send(message)

        await self.app(scope, receive, marked)


@contextmanager
def running(repository: Path, root_path: str = "", seen: list[str] | None = None) -> Iterator[RunningApp]:
    app = create_app(Settings(models=(repository,), batch_sizes=(1,), threads=1))
    if seen is not None:
        app.add_middleware(Spy, seen=seen)
    with RunningApp(app, root_path) as served:
        served.ready()
        yield served


def post(served: RunningApp, path: str) -> dict[str, Any]:
    response = served.post(path, content=PICTURE, headers={"content-type": "image/png", "x-request-id": "a"})
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    del document["latency_ms"]
    return document


def test_middleware_of_a_deployment_sees_it_too(repository: Path) -> None:
    seen: list[str] = []
    with running(repository, seen=seen) as served:
        response = served.post(PATH, content=PICTURE, headers={"content-type": "image/png"})
    assert response.headers["x-spy"] == "1"
    assert PATH in seen


def test_below_a_prefix_the_longer_way_answers_the_same(repository: Path) -> None:
    with running(repository) as served:
        direct = post(served, PATH)
        of_version = post(served, "/v1/models/tiny/versions/1/classify")
    with running(repository, root_path="/below") as served:
        around = post(served, "/below" + PATH)
    assert direct == of_version == around


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/models/nobody/classify", 404),
        ("/v1/models/tiny/versions/9/classify", 404),
        ("/v1/models/tiny/versions/x/classify", 404),
        ("/v1/models//classify", 404),
        ("/v1/models/tiny/classify/", 404),
        ("/v1/models/tiny/more/classify", 404),
        ("/v1/models/ti%6Ey/classify", 200),
    ],
)
def test_addresses_are_told_apart_as_by_the_router(repository: Path, path: str, status: int) -> None:
    found = []
    for root_path in ("", "/below"):
        with running(repository, root_path) as served:
            response = served.post(path, content=PICTURE, headers={"content-type": "image/png"})
            found.append(response.status_code)
    assert found == [status, status]


class Unread:
    """Middleware that says of each request that it has been here for ten seconds."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope[ARRIVED] = time.perf_counter() - 10
        await self.app(scope, receive, send)


def test_a_deadline_counts_from_when_a_request_was_here(repository: Path) -> None:
    app = create_app(Settings(models=(repository,), batch_sizes=(1,), threads=1))
    app.add_middleware(Unread)
    with RunningApp(app) as served:
        served.ready()
        headers = {"content-type": "image/png"}
        late, in_time = (
            served.post(PATH, content=PICTURE, headers=headers, params={"deadline_ms": ms}) for ms in (5000, 60000)
        )
    assert (late.status_code, in_time.status_code) == (504, 200)
    assert in_time.json()["latency_ms"]["total"] > 10_000
