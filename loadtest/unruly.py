"""Clients that misbehave beside those that are measured: they are counted on their own, and never in a latency.

`disconnect` goes away in the middle of its request's body; `dribble` sends a proper request a few bytes at a time;
`garbage` sends a body that is no picture; `nonsense` what is no HTTP; `oversized` announces a body of a terabyte.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import httptools

from loadtest.address import Address
from loadtest.errors import LoadTestError

Kind = Literal["disconnect", "dribble", "garbage", "nonsense", "oversized"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# So many at once at most; more would be clients that this process cannot afford either.
_MOST = 64
_PIECES, _PAUSE_S = 20, 0.02
_PATIENCE_S = 10.0
_OVERSIZED = 1 << 40
_GARBAGE_BYTES = 512
# What nginx and the service's metrics call a client that went away.
_GONE = 499


@dataclass(frozen=True)
class Chaos:
    """A share of all requests that unruly clients make, of these kinds in equal parts."""

    share: float
    kinds: tuple[Kind, ...] = KINDS

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise LoadTestError(f"the share of unruly clients lies between 0 and 1, not at {self.share:g}")
        if not self.kinds:
            raise LoadTestError(f"there are no kinds of unruly clients; there may be {', '.join(KINDS)}")


def parse_kinds(text: str) -> tuple[Kind, ...]:
    """Kinds with commas between them. Raises LoadTestError."""
    wanted = [name.strip() for name in text.split(",")]
    if unknown := sorted(set(wanted) - set(KINDS)):
        raise LoadTestError(f"unruly clients are of the kinds {', '.join(KINDS)}, not {', '.join(unknown)}")
    return tuple(kind for kind in KINDS if kind in wanted)


@dataclass(frozen=True)
class Proper:
    """A proper request: its first lines, without the empty one, and the whole of it; ``model`` is whom it asks."""

    model: str
    start: bytes
    content: bytes


class Unruly:
    """Lets unruly clients loose, beside the requests of a driver.

    ``did`` counts them by kind and by kind and status; ``codes`` counts by model and status what the service will have
    counted; ``answered`` are the answers of 200, with their ways.
    """

    def __init__(self, chaos: Chaos, where: Address, proper: Sequence[Proper], seed: int) -> None:
        self.did: Counter[str] = Counter()
        self.codes: Counter[tuple[str, int]] = Counter()
        self.answered: list[tuple[int, _Answer]] = []
        self._chaos, self._where, self._proper = chaos, where, proper
        self._random = random.Random(seed)
        self._ssl = ssl.create_default_context() if where.secure else None
        self._tasks: set[asyncio.Task[None]] = set()
        # Of all requests, those of the driver included, this share is to be unruly.
        self._chance = chaos.share / (1 - chaos.share)
        self._owed = 0.0

    def __call__(self) -> None:
        """Called with each request of the driver's."""
        self._owed += self._chance
        while self._owed >= 1:
            self._owed -= 1
            if len(self._tasks) < _MOST:
                kind = self._random.choice(self._chaos.kinds)
                task = asyncio.get_running_loop().create_task(self._one(kind))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                self.did["held back"] += 1

    async def finish(self) -> None:
        """Let those that are loose come to their end."""
        await asyncio.gather(*self._tasks)

    async def _one(self, kind: Kind) -> None:
        way = self._random.randrange(len(self._proper))
        self.did[kind] += 1
        try:
            async with asyncio.timeout(_PATIENCE_S):
                answer = await self._misbehave(kind, self._proper[way])
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            self.did[f"{kind}: no answer"] += 1
            return
        model = self._proper[way].model
        if kind == "disconnect":
            self.codes[model, _GONE] += 1
            return
        if answer is None:
            self.did[f"{kind}: no answer"] += 1
            return
        self.did[f"{kind}: {answer.status}"] += 1
        if kind != "nonsense":  # which never reaches what counts
            self.codes[model, answer.status] += 1
        if answer.status == 200:
            self.answered.append((way, answer))

    async def _misbehave(self, kind: Kind, proper: Proper) -> _Answer | None:
        reader, writer = await asyncio.open_connection(self._where.host, self._where.port, ssl=self._ssl)
        with contextlib.closing(writer):
            picture = proper.start + b"content-type: image/png\r\n"
            if kind == "disconnect":
                writer.write(proper.content[: -max(1, len(proper.content) // 10)])
                await writer.drain()
                await asyncio.sleep(self._random.uniform(0, _PAUSE_S))
                return None
            if kind == "nonsense":
                writer.write(self._random.randbytes(_GARBAGE_BYTES) + b"\r\n\r\n")
            elif kind == "oversized":
                writer.write(picture + b"content-length: %d\r\n\r\n" % _OVERSIZED + bytes(_GARBAGE_BYTES))
            elif kind == "garbage":
                length = b"content-length: %d\r\n\r\n" % _GARBAGE_BYTES
                writer.write(picture + length + self._random.randbytes(_GARBAGE_BYTES))
            else:
                step = -(-len(proper.content) // _PIECES)
                for start in range(0, len(proper.content), step):
                    writer.write(proper.content[start : start + step])
                    await writer.drain()
                    await asyncio.sleep(_PAUSE_S)
            return await _read(reader)


@dataclass
class _Answer:
    """An answer as httptools reads it."""

    status: int = 0
    body: bytes = b""
    json_length: int | None = None
    complete: bool = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"inference-header-content-length" and value.isdigit():
            self.json_length = int(value)

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


async def _read(reader: asyncio.StreamReader) -> _Answer | None:
    answer = _Answer()
    parser = httptools.HttpResponseParser(answer)
    while not answer.complete:
        data = await reader.read(65536)
        if not data:
            return None
        try:
            parser.feed_data(data)
        except httptools.HttpParserError:
            return None
    answer.status = parser.get_status_code()
    return answer
