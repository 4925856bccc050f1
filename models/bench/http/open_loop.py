"""Requests at random times that wait for nobody: an open loop, as many independent clients make it.

Latency counts from when a request was to be sent. So neither a slow server, which would slow a closed loop's clients
down with it, nor a late client makes a figure look better; how late the client was is kept beside it.

HTTP is spoken by hand, over connections that are kept: at a few hundred requests a second a general client has a core
busy with itself, and is late.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

import uvloop

# Longer than any deadline that is measured.
_TIMEOUT_S = 30.0
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close\r\n", re.IGNORECASE)
# Before the first request, for the connections to be made.
_LEAD_S = 0.2


@dataclass(frozen=True)
class Reply:
    """What became of one request.

    status: 0 where there was no answer.
    timesteps: the budget that answered, where one did.
    latency_s: from when it was to be sent to the end of the answer; late_s, of that, before the client sent it.
    """

    status: int
    timesteps: int | None
    latency_s: float
    late_s: float


def offer(
    url: str, picture: bytes, options: Mapping[str, str], *, rate: float, seconds: float, seed: int
) -> list[Reply]:
    """Post a picture at the times of a Poisson process, ``rate`` a second for so many seconds; in order of sending."""
    return uvloop.run(_offer(url, picture, options, list(_times(rate, seconds, seed))))


def _times(rate: float, seconds: float, seed: int) -> Iterable[float]:
    gaps = random.Random(seed)
    at = gaps.expovariate(rate)
    while at < seconds:
        yield at
        at += gaps.expovariate(rate)


async def _offer(url: str, picture: bytes, options: Mapping[str, str], times: Sequence[float]) -> list[Reply]:
    address = urlsplit(url)
    head = (
        f"POST {address.path}?{urlencode(options)} HTTP/1.1\r\nhost: {address.netloc}\r\n"
        f"content-type: image/png\r\ncontent-length: {len(picture)}\r\n\r\n"
    )
    connections = _Connections(str(address.hostname), int(address.port or 80), head.encode("ascii") + picture)
    began = time.perf_counter() + _LEAD_S

    async def ask(due: float) -> Reply:
        sent = time.perf_counter()
        status, timesteps = 0, None
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                status, body = await connections.post()
            timesteps = int(json.loads(body)["timesteps"]) if status == 200 else None
        except (OSError, EOFError, TimeoutError):
            pass
        # Timers may fire a little early.
        return Reply(status, timesteps, time.perf_counter() - min(due, sent), max(0.0, sent - due))

    tasks = []
    for at in times:
        await asyncio.sleep(max(0.0, began + at - time.perf_counter()))
        tasks.append(asyncio.create_task(ask(began + at)))
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        connections.close()


class _Connections:
    """Sends one and the same request over connections that are free, or new ones."""

    def __init__(self, host: str, port: int, request: bytes) -> None:
        self._host, self._port, self._request = host, port, request
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self) -> tuple[int, bytes]:
        """Status and body. Raises OSError and EOFError."""
        if self._free:
            # The one used last: what is not needed for a while stays idle, and the server may close it any time.
            try:
                return await self._post(*self._free.pop())
            except asyncio.IncompleteReadError as error:
                if error.partial:
                    raise
            except ConnectionError:
                pass
        return await self._post(*await asyncio.open_connection(self._host, self._port))

    async def _post(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, bytes]:
        try:
            writer.write(self._request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            body = await reader.readexactly(int(length[1])) if length else b""
        except BaseException:
            writer.close()
            raise
        if head.startswith(b"HTTP/1.0") or _CLOSE.search(head):
            writer.close()
        else:
            self._free.append((reader, writer))
        return int(head.split(b" ", 2)[1]), body

    def close(self) -> None:
        """Close those that are free."""
        for _, writer in self._free:
            writer.close()
