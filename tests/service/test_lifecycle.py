"""The end of a server, in this process; `tests/end_to_end/test_shutdown.py` has it live."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import uvicorn

from service.app import create_app
from service.lifecycle import Server
from service.settings import Settings
from service.signals import ended
from service.transports.connections import ConnectionLimits, Connections
from service.transports.protocol import Reader
from tests import tiny
from tests.serving import PATIENCE_S

BODY = json.dumps({"instances": tiny.images(1).tolist()}).encode()
HEAD = b"POST /v1/models/tiny/classify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
REQUEST = HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def serving(repository: Path) -> AsyncIterator[tuple[Server, socket.socket]]:
    """A server that is ready, up to its shutdown, and its listener."""
    app = create_app(Settings(models=(repository,), threads=1, batch_sizes=(1,)))
    connections = Connections(ConnectionLimits(100, 4096, 100, PATIENCE_S, PATIENCE_S))
    config = uvicorn.Config(app, http=partial(Reader, connections), log_config=None, ws="none")  # type: ignore[arg-type]
    server = Server(config, app.state.services, connections, delay_s=0, drain_s=int(PATIENCE_S))
    config.load()
    server.lifespan = config.lifespan_class(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await server.startup([listener])
        while not app.state.services.models.ready:
            await asyncio.sleep(0.01)
        yield server, listener


async def answer(streams: Streams) -> tuple[int, bool]:
    """Status, and whether it is the last."""
    reader, writer = streams
    writer.write(REQUEST)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    await reader.readexactly(int(length.split()[1]))
    return int(head.split()[1]), b"connection: close" in head


async def closed(streams: Streams) -> None:
    streams[1].close()
    await streams[1].wait_closed()


def run(test: asyncio.Future[None] | object) -> None:
    asyncio.run(asyncio.wait_for(test, PATIENCE_S))  # type: ignore[arg-type]


def test_a_request_on_an_idle_connection_is_answered_though_nobody_listens(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.lifecycle._IDLE_GRACE_S", PATIENCE_S)

    async def test() -> None:
        async with serving(repository) as (server, listener):
            address = listener.getsockname()
            idle = await asyncio.open_connection(*address)
            assert await answer(idle) == (200, False)
            server._all.leave()
            ending = asyncio.create_task(server.shutdown([listener]))
            while listener.fileno() >= 0:
                await asyncio.sleep(0.001)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*address)
            assert await answer(idle) == (200, True)
            await ending  # as soon as there is no connection left, not after all of the grace
            await closed(idle)

    run(test())


def test_what_has_connected_when_the_listener_closes_is_served(repository: Path) -> None:
    async def test() -> None:
        async with serving(repository) as (server, listener):
            server._all.leave()
            # The event loop is not asked before the shutdown begins: nobody has accepted them by then.
            waiting = [socket.create_connection(listener.getsockname()) for _ in range(5)]
            ending = asyncio.create_task(server.shutdown([listener]))
            for connection in waiting:
                streams = await asyncio.open_connection(sock=connection)
                assert await answer(streams) == (200, True)
                await closed(streams)
            await ending

    run(test())


@pytest.mark.parametrize(("status", "words"), [(3, "with the status 3"), (-signal.SIGKILL, "by SIGKILL")])
def test_how_a_process_ended_is_said_in_words(status: int, words: str) -> None:
    assert ended(12, status) == f"process 12 ended {words}"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_containers_first_process_ends_by_a_signal_too(number: signal.Signals, status: int) -> None:
    """Where the system would not end it, since it has the number 1."""
    program = f"import os; from service import signals; signals._FIRST = os.getpid(); signals.die_of({number})"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == status
    as_any_other = program.replace("os.getpid()", "1")
    assert subprocess.run([sys.executable, "-c", as_any_other], check=False).returncode == -number
