"""Whatever is sent to a live server, it is never the server's fault, and leaves nothing behind.

`tests/mutations.py` makes the requests, the same in each run.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from tests import tiny
from tests.images import encode
from tests.live import Process, running
from tests.mutations import Mutator, Raw, valid
from tests.serving import PATIENCE_S

SEED = 20240211
CONNECTIONS = 8
# Where the framing is broken the server may wait for what never comes; then the client goes away.
BROKEN_S = 0.05
MOST_GROWTH = 1.05
# By itself the C library learns from the first large blocks to keep the next ones, and what is resident is up to a
# quarter more or less by what it keeps at the moment. So it gives all of them back, and what stays was not let go of.
FIXED = {"MALLOC_MMAP_THRESHOLD_": str(256 * 1024), "MALLOC_TRIM_THRESHOLD_": str(256 * 1024)}


def requests() -> list[Raw]:
    images = tiny.images(2)
    pictures = [encode((image[0] * 255).astype(np.uint8)) for image in images]
    return valid("tiny", pictures, images.tolist(), images.shape)


@dataclass
class Answers:
    """How often there was each status, 0 where there was none; and what had one of 500 and above."""

    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[tuple[int, bytes, bytes]] = field(default_factory=list)

    def note(self, request: Raw, status: int, body: bytes) -> None:
        self.statuses[status] += 1
        if status >= 500:
            self.faults.append((status, body, request.encoded()))


class Client:
    """One connection after the other."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._address: tuple[Any, Any] = (address.hostname, address.port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, request: Raw) -> tuple[int, bytes]:
        """Status and body; 0 where the server hung up, or waits for more than it gets."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address)
        reader, writer = self._streams
        last = not request.framed
        try:
            writer.write(request.encoded())
            async with asyncio.timeout(BROKEN_S if last else PATIENCE_S):
                status, headers, body = await self._answer(reader)
            last = last or b"connection: close" in headers.lower()
            return status, body
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError) as error:
            if not last:
                raise AssertionError(f"no answer to {request.encoded()!r}") from error
            return 0, b""
        finally:
            if last:
                await self.close()

    async def close(self) -> None:
        if self._streams is not None:
            writer = self._streams[1]
            self._streams = None
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[int, bytes, bytes]:
        status = 100
        while status == 100:
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        assert length, head
        return status, head, await reader.readexactly(int(length[1]))


async def send(url: str, mutator: Mutator, count: int, answers: Answers) -> None:
    left = iter(range(count))

    async def work() -> None:
        client = Client(url)
        try:
            for _ in left:
                request = mutator.next()
                answers.note(request, *await client.send(request))
        finally:
            await client.close()

    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))


def resident_bytes(process: Process) -> int:
    status = Path(f"/proc/{process.process.pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


@pytest.fixture
def process(repository: Path) -> Iterator[Process]:
    with running(repository, **FIXED) as live:
        yield live
    assert "ERROR" not in live.log, live.log


def check(process: Process, warm_up: int, rounds: int, count: int) -> None:
    """Many are sent in rounds; what the server holds after each goes up and down, so that medians are compared."""
    mutator, answers, kept = Mutator(requests(), SEED), Answers(), []
    asyncio.run(send(process.url, mutator, warm_up, answers))
    for _ in range(rounds):
        asyncio.run(send(process.url, mutator, count, answers))
        kept.append(resident_bytes(process) / 2**20)
    print("statuses:", dict(sorted(answers.statuses.items())), "resident MiB:", [round(size, 1) for size in kept])
    assert not answers.faults, answers.faults[:3]
    # What was tried is worth something only if it had every kind of answer, and was not refused at the door.
    assert {200, 400, 404, 413, 415, 422} <= answers.statuses.keys()
    assert answers.statuses[200] > sum(answers.statuses.values()) / 20
    third = rounds // 3
    assert statistics.median(kept[-third:]) <= MOST_GROWTH * statistics.median(kept[:third])


def test_each_request_is_right_before_it_is_changed(process: Process) -> None:
    async def test() -> None:
        client = Client(process.url)
        for request in requests():
            status, body = await client.send(request)
            assert status == 200, body
        await client.close()

    asyncio.run(test())


def test_two_thousand_mutated_requests_are_no_fault_of_the_server(process: Process) -> None:
    check(process, warm_up=800, rounds=6, count=200)


@pytest.mark.long
def test_a_hundred_thousand_mutated_requests_are_no_fault_of_the_server(process: Process) -> None:
    check(process, warm_up=10_000, rounds=18, count=5_000)
