"""The minimal app without its framework, one part after another: bare ASGI applications on the same server.

Each answers every request, whatever its path, with the five classes that the minimal app would give as JSON; all but
the last always with the same ones.

    echo      reads the body
    decoding  also decodes it
    complete  also runs the graph on the event loop
"""

from __future__ import annotations

import json
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from models.bench.http.minimal_app import Classifier, Prediction, decode

_FIXED: list[Prediction] = [{"label": str(digit), "probability": 0.2} for digit in range(5)]


def echo() -> ASGIApp:
    """An application that reads the body."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await _body(receive)
        await _answer(send, _FIXED)

    return app


def decoding() -> ASGIApp:
    """An application that decodes the picture."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        decode(await _body(receive))
        await _answer(send, _FIXED)

    return app


def complete() -> ASGIApp:
    """An application that classifies the picture; reads the variables that the minimal app reads."""
    classify = Classifier()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await _answer(send, classify(decode(await _body(receive))))

    return app


async def _body(receive: Receive) -> bytes:
    parts = []
    more = True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


async def _answer(send: Send, predictions: list[Prediction]) -> None:
    body = json.dumps({"predictions": predictions}).encode("ascii")
    headers: list[Any] = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode("ascii"))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
