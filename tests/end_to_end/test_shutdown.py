"""How a live server ends: nothing that it took is lost, and what is told to it twice it does at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests import tiny
from tests.live import Process, until_ready
from tests.serving import PATIENCE_S

BODY = json.dumps({"instances": tiny.images(1).tolist(), "timesteps": 1}).encode()
REQUEST = (
    b"POST /v1/models/tiny/classify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)
PROBE = b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
CLIENTS = 4
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Make = Callable[..., Process]


@pytest.fixture
def make(repository: Path) -> Iterator[Make]:
    """Starts servers that are ready; in the end none is left."""
    made: list[Process] = []

    def start(wait: bool = True, models: Path | None = repository, **variables: str) -> Process:
        made.append(Process(models, **variables))
        if wait:
            with httpx.Client(base_url=made[-1].url, timeout=PATIENCE_S) as client:
                until_ready(client)
        return made[-1]

    yield start
    for process in made:
        process.process.kill()
        process.process.communicate()
        for worker in workers_of(process):
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)


def workers_of(process: Process) -> list[int]:
    """Its workers, by a log that has been read so far."""
    found = [int(number) for number in re.findall(r"Started server process \[(\d+)\]", process.log)]
    return [number for number in found if number != process.process.pid]


def children_of(process: Process) -> list[int]:
    """Workers that are alive: children that are no helper of multiprocessing's."""
    listing = Path(f"/proc/{process.process.pid}/task/{process.process.pid}/children").read_text(encoding="ascii")
    found = {int(number): Path(f"/proc/{number}/cmdline").read_bytes() for number in listing.split()}
    return [number for number, command in found.items() if b"resource_tracker" not in command]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def is_gone(process: int) -> bool:
    """Whether a process has ended, though nobody may have noticed yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def ready(process: Process) -> tuple[int, str]:
    answer = httpx.get(f"{process.url}/readyz", timeout=PATIENCE_S)
    return answer.status_code, answer.json().get("detail", "")


@dataclass
class Load:
    """What became of the requests of clients that go on until nobody listens any more."""

    address: tuple[Any, Any]
    asked: Counter[str] = field(default_factory=Counter)
    not_ready: asyncio.Event = field(default_factory=asyncio.Event)
    early: list[str] = field(default_factory=list)

    async def one(self, streams: Streams, request: bytes) -> tuple[int, bool]:
        """Status, 0 where there was no answer; whether the connection ends."""
        reader, writer = streams
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"\r\ncontent-length: (\d+)", head)
            assert length
            await reader.readexactly(int(length[1]))
        except (ConnectionError, asyncio.IncompleteReadError):
            return 0, True
        return int(head.split()[1]), b"\r\nconnection: close" in head

    async def client(self, keep_alive: bool) -> None:
        while True:
            try:
                streams = await asyncio.open_connection(*self.address)
            except ConnectionRefusedError:
                if not self.not_ready.is_set():
                    self.early.append("refused")
                return
            with contextlib.closing(streams[1]):
                ends = False
                while not ends:
                    status, ends = await self.one(streams, REQUEST)
                    self.asked["lost" if status == 0 else str(status)] += 1
                    ends = ends or not keep_alive

    async def prober(self) -> None:
        while not self.not_ready.is_set():
            streams = await asyncio.open_connection(*self.address)
            with contextlib.closing(streams[1]):
                status, _ = await self.one(streams, PROBE)
            if status != 200:
                assert status == 503
                self.not_ready.set()
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
def test_sigterm_under_load_loses_no_request_and_refuses_none_before_readiness_turned(make: Make, workers: int) -> None:
    process = make(LMHT_SHUTDOWN_DELAY_S="1", LMHT_WORKERS=str(workers))
    address = urlsplit(process.url)

    async def test() -> Load:
        load = Load((address.hostname, address.port))
        clients = [asyncio.create_task(load.client(keep_alive)) for keep_alive in (True, False) for _ in range(CLIENTS)]
        prober = asyncio.create_task(load.prober())
        while load.asked["200"] < 200:
            await asyncio.sleep(0.01)
        before = load.asked["200"]
        process.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            await prober
            at_readiness = load.asked["200"]
            await asyncio.gather(*clients)
        assert before <= at_readiness < load.asked["200"], "nothing was asked in between"
        return load

    load = asyncio.run(test())
    assert load.asked.keys() == {"200"}, load.asked
    assert not load.early
    assert process.process.wait(PATIENCE_S) == 0


@pytest.mark.long
def test_without_a_delay_a_client_that_comes_again_loses_nothing_either(make: Make) -> None:
    process = make()
    address = urlsplit(process.url)

    async def test() -> Load:
        load = Load((address.hostname, address.port))
        load.not_ready.set()  # it cannot be seen
        clients = [asyncio.create_task(load.client(keep_alive)) for keep_alive in (True, False) for _ in range(CLIENTS)]
        while load.asked["200"] < 200:
            await asyncio.sleep(0.01)
        process.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*clients)
        return load

    assert asyncio.run(test()).asked.keys() == {"200"}
    assert process.process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
def test_while_it_is_not_ready_it_answers_and_a_second_signal_ends_it_at_once(
    make: Make, workers: int, number: signal.Signals
) -> None:
    process = make(LMHT_SHUTDOWN_DELAY_S="3000", LMHT_WORKERS=str(workers))
    workers_alive = children_of(process)
    assert len(workers_alive) == (workers if workers > 1 else 0)
    process.process.send_signal(number)
    until(lambda: ready(process) == (503, "draining: the server is shutting down"))
    for _ in range(2 * workers):
        assert httpx.get(f"{process.url}/livez").status_code == 200
        answer = httpx.post(f"{process.url}/v1/models/tiny/classify", json=json.loads(BODY))
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    process.process.send_signal(number)
    assert process.process.wait(PATIENCE_S) == -number
    for worker in workers_alive:
        until(lambda worker=worker: is_gone(worker))  # type: ignore[misc]


@pytest.mark.long
def test_signals_that_a_terminal_or_a_service_manager_sends_to_every_process_are_one(make: Make) -> None:
    process = make(LMHT_SHUTDOWN_DELAY_S="1", LMHT_WORKERS="2")
    everybody = [process.process.pid, *children_of(process)]
    assert len(everybody) == 3
    with socket.create_connection((urlsplit(process.url).hostname, urlsplit(process.url).port)) as connection:
        connection.sendall(REQUEST[:-10])  # it is under way
        for number in everybody:
            os.kill(number, signal.SIGTERM)
        until(lambda: ready(process)[0] == 503)
        connection.sendall(REQUEST[-10:])
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert process.process.wait(PATIENCE_S) == 0


@pytest.mark.long
def test_workers_do_not_outlive_their_supervisor(make: Make) -> None:
    process = make(LMHT_WORKERS="2")
    workers = children_of(process)
    assert len(workers) == 2
    process.process.kill()
    for worker in workers:
        until(lambda worker=worker: is_gone(worker))  # type: ignore[misc]


def test_what_is_under_way_for_too_long_is_told_so_and_the_server_ends(make: Make) -> None:
    process = make(LMHT_DRAIN_S="1")
    address = urlsplit(process.url)
    with socket.create_connection((address.hostname, address.port), timeout=PATIENCE_S) as connection:
        connection.sendall(REQUEST[:-10])
        until(lambda: b"lmht_requests_in_flight 1" in httpx.get(f"{process.url}/metrics").content)
        assert process.end(signal.SIGTERM) == 0
        assert connection.recv(65536).startswith(b"HTTP/1.1 503 ")
    assert "Traceback" not in process.log


def test_while_models_are_loaded_it_ends_without_loading_the_rest(make: Make, tmp_path: Path) -> None:
    versions = 200
    for version in range(1, versions + 1):
        tiny.write(tmp_path / "tiny" / str(version))
    process = make(wait=False, models=tmp_path, LMHT_SHUTDOWN_DELAY_S="3000", LMHT_CACHE_DIR="off")
    assert ready(process) == (503, "models are still being loaded")
    assert process.end(signal.SIGTERM) == 0
    # At most the one that was being loaded: of the others nothing is said, and nothing done.
    assert process.log.count("is not loaded: the server is stopping") <= 1
    assert process.log.count("is ready on") < versions / 2
    assert "Traceback" not in process.log


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
def test_before_there_is_anything_to_finish_it_ends_too(make: Make, workers: int) -> None:
    process = make(wait=False, LMHT_WORKERS=str(workers))
    assert process.end(signal.SIGTERM) == 0
    assert "Traceback" not in process.log
