"""A server of known behaviour, on a real socket: what it answers is decided request by request."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httptools
import numpy as np
import orjson
from PIL import Image

from loadtest.model import Model
from loadtest.pictures import Picture
from loadtest.record import BudgetCard, ModelCard
from tests.serving import PATIENCE_S

CLASSES = ("ring", "bar", "dot")
MODEL = Model(
    name="stub",
    classes=CLASSES,
    channels=1,
    height=8,
    width=8,
    budgets=(1, 2, 4),
    card=ModelCard("stub", "1", "none", "full", 2, "", (BudgetCard(1, None), BudgetCard(2, 0.5), BudgetCard(4, 0.75))),
)


def png(seed: int, width: int = 8, height: int = 8) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


# Their labels are 0, 1, 2, 0 and one that is not known.
PICTURES = tuple(
    Picture(f"{number}.png", png(number), "image/png", label) for number, label in enumerate((0, 1, 2, 0, None))
)


def answer(timesteps: int = 1, index: int = 0, images: int = 1, model: str = MODEL.name) -> bytes:
    """A classification as the native API has it, as far as a load test reads it."""
    prediction = {
        "index": index,
        "label": CLASSES[index],
        "probability": 0.75,
        "timesteps": timesteps,
        "spikes": {"total": 100 * timesteps},
        "energy": {"profile": "horowitz-45nm-fp32", "snn_nj": 2.5 * timesteps},
    }
    return orjson.dumps(
        {
            "model": model,
            "timesteps": timesteps,
            "predictions": [prediction] * images,
            "latency_ms": {"decode": 0.1, "queue": 1.0, "compute": 2.0, "total": 3.5},
        }
    )


@dataclass
class Asked:
    """A request as it came: on which connection, at what time of the stub's clock."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int
    at: float


# The whole response, or its pieces, each to be sent by itself; or None to close the connection without any.
Behaviour = Callable[[Asked], bytes | tuple[bytes, ...] | None]
_BETWEEN_PIECES_S = 0.01


def response(status: int = 200, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Stub:
    """Answers after ``wait_s(asked)`` seconds with ``behave(asked)``, and keeps what it was asked."""

    def __init__(self, behave: Behaviour, wait_s: Callable[[Asked], float]) -> None:
        self.asked: list[Asked] = []
        self.connections = 0
        self.behave, self.wait_s = behave, wait_s
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._open: set[asyncio.Transport] = set()

    def start(self) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(PATIENCE_S)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(PATIENCE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    def close_connections(self) -> None:
        """Close those that are open, and go on listening."""

        async def close() -> None:
            for transport in tuple(self._open):
                transport.close()

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(PATIENCE_S)

    async def _start(self) -> None:
        self._server = await self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    async def _stop(self) -> None:
        self._server.close()
        for transport in tuple(self._open):
            transport.abort()
        await asyncio.sleep(0)


class _Connection(asyncio.Protocol):
    def __init__(self, stub: Stub) -> None:
        self.stub = stub
        stub.connections += 1
        self.number = stub.connections
        self.parser = httptools.HttpRequestParser(self)
        self._begin()

    def _begin(self) -> None:
        self.path, self.body = "", b""
        self.headers: dict[str, str] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.stub._open.add(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.stub._open.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.write(response(400, b"", "connection: close"))
            self.transport.close()

    def on_url(self, url: bytes) -> None:
        self.path += url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        stub, loop = self.stub, asyncio.get_running_loop()
        method = self.parser.get_method().decode()
        asked = Asked(method, self.path, self.headers, self.body, self.number, loop.time())
        self._begin()
        stub.asked.append(asked)
        loop.call_later(stub.wait_s(asked), self.reply, asked)

    def reply(self, asked: Asked) -> None:
        reply = self.stub.behave(asked)
        if reply is None:
            self.transport.abort()
            return
        pieces = (reply,) if isinstance(reply, bytes) else reply
        for number, piece in enumerate(pieces):
            asyncio.get_running_loop().call_later(number * _BETWEEN_PIECES_S, self.write, piece)

    def write(self, piece: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(piece)
            if b"connection: close" in piece:
                self.transport.close()


def classifies(asked: Asked) -> bytes:
    """Answers as the service would."""
    return response(200, answer_to(asked.path))


def answer_to(path: str) -> bytes:
    """The answer for one image by the model and the budget in an address."""
    timesteps = path.rpartition("timesteps=")[2].partition("&")[0]
    return answer(int(timesteps) if timesteps.isdigit() else 1, model=path.split("/")[3])


@contextmanager
def serving(behave: Behaviour = classifies, wait_s: Callable[[Asked], float] = lambda asked: 0.0) -> Iterator[Stub]:
    stub = Stub(behave, wait_s)
    stub.start()
    try:
        yield stub
    finally:
        stub.stop()
