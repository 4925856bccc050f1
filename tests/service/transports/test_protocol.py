"""Connections against clients that are slow, silent, many or no clients at all; over a real socket, on both loops."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from service.problems import Problem
from service.transports.asked import ARRIVED
from service.transports.connections import READ_BYTES, ConnectionLimits, Connections
from service.transports.protocol import Connection, Reader
from tests.serving import PATIENCE_S

NEVER_S = 10 * PATIENCE_S
LINE = b"GET /read HTTP/1.1\r\nHost: x\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def within(test: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(asyncio.wait_for(test, PATIENCE_S))

    return within


@pytest.fixture(autouse=True)
def _short_lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.transports.protocol._LINGER_S", 0.1)


@dataclass
class Listening:
    """A server with an app that says what it saw."""

    port: int
    connections: Connections
    refused: list[str]
    seen: list[Scope] = field(default_factory=list)
    bodies: list[int] = field(default_factory=list)
    received_bytes: int = 0
    made: list[Connection] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """/read takes the whole body, /refuse none of it, /wait is held up; /large answers much."""
        self.seen.append(scope)
        self.entered.set()
        status, body = 200, b"read"
        if scope["path"] == "/read":
            size, more = 0, True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    self.gone.set()
                    return
                size, more = size + len(message["body"]), message.get("more_body", False)
            self.bodies.append(size)
        elif scope["path"].startswith("/refuse"):
            status, body = 413, b"refused"
        elif scope["path"] == "/wait":
            await self.gate.wait()
        elif scope["path"] == "/large":
            body = bytes(32 * 1024 * 1024)
        headers = [(b"content-length", str(len(body)).encode())]
        headers += [(b"connection", b"close")] if scope["path"] == "/refuse/close" else []
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def connect(self) -> Streams:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def listening(*, keep_alive_s: float = NEVER_S, **limits: float) -> AsyncIterator[Listening]:
    refused: list[str] = []

    def note(problem: Problem) -> None:
        refused.append(problem.slug)

    values: dict[str, Any] = {"connections": 100, "header_bytes": 4096, "headers": 20}
    values |= {"header_timeout_s": NEVER_S, "write_timeout_s": NEVER_S} | limits
    connections = Connections(ConnectionLimits(**values), note)
    found = Listening(0, connections, refused)
    config = uvicorn.Config(found.app, lifespan="off", log_config=None, ws="none", interface="asgi3")
    config.load()
    config.timeout_keep_alive = keep_alive_s  # type: ignore[assignment]

    class Counting(Reader):
        def buffer_updated(self, nbytes: int) -> None:
            found.received_bytes += nbytes
            super().buffer_updated(nbytes)

    def make() -> Reader:
        reader = Counting(connections, config=config, server_state=ServerState(), app_state={})
        found.made.append(reader._connection)
        return reader

    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        found.gate.set()
        server.close()
        async with asyncio.timeout(PATIENCE_S):
            await found.until(lambda: not len(connections))


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """One answer: status, headers, body."""
    line = await reader.readline()
    headers = {}
    while header := (await reader.readline()).strip():
        name, _, value = header.decode().partition(": ")
        headers[name] = value
    return int(line.split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


async def problem(reader: asyncio.StreamReader, status: int, slug: str) -> None:
    """The answer is this problem, and the last on its connection."""
    found, headers, body = await answer(reader)
    assert found == status
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    document = json.loads(body)
    assert document["type"] == f"urn:problem-type:lmht:{slug}"
    assert document["request_id"] == headers["x-request-id"]
    assert await reader.read() == b""


async def is_cut_off(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


def closing(writer: asyncio.StreamWriter) -> Awaitable[None]:
    writer.close()
    return asyncio.sleep(0)


@pytest.mark.parametrize(
    "head",
    [
        LINE + b"A: " + b"a" * 5000 + b"\r\n\r\n",
        LINE + b"".join(b"H%d: %s\r\n" % (n, b"a" * 400) for n in range(12)) + b"\r\n",
        b"GET /read?" + b"a" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        LINE + b"".join(b"H%d: a\r\n" % n for n in range(25)) + b"\r\n",
    ],
    ids=["one", "together", "address", "number"],
)
@pytest.mark.parametrize("piece", [100_000, 700], ids=["whole", "pieces"])
def test_too_much_of_a_header_is_a_431(run: Run, head: bytes, piece: int) -> None:
    async def test() -> None:
        async with listening() as server:
            reader, writer = await server.connect()
            for start in range(0, len(head), piece):
                writer.write(head[start : start + piece])
                await asyncio.sleep(0.001)
            await problem(reader, 431, "header-too-large")
            assert server.refused == ["header-too-large"]
            assert not server.seen
            await closing(writer)

    run(test())


def test_a_header_without_an_end_is_refused_after_no_more_than_the_limit_and_two_reads(run: Run) -> None:
    async def test() -> None:
        async with listening() as server:
            reader, writer = await server.connect()
            writer.write(LINE + b"A: " + b"a" * (8 * READ_BYTES))
            await problem(reader, 431, "header-too-large")
            assert server.received_bytes <= 4096 + 2 * READ_BYTES
            await closing(writer)

    run(test())


@pytest.mark.parametrize("size", [3900, 4000])
def test_up_to_the_limit_headers_are_taken(run: Run, size: int) -> None:
    async def test() -> None:
        async with listening() as server:
            reader, writer = await server.connect()
            writer.write(LINE + b"A: " + b"a" * size + b"\r\n\r\n" + LINE + b"A: " + b"a" * size + b"\r\n\r\n")
            assert (await answer(reader))[0] == 200
            assert (await answer(reader))[0] == 200
            await closing(writer)

    run(test())


def test_headers_that_take_too_long_are_a_408(run: Run) -> None:
    async def test() -> None:
        async with listening(header_timeout_s=0.2) as server:
            reader, writer = await server.connect()
            writer.write(LINE)

            async def drip() -> None:
                while True:
                    writer.write(b"A: a\r\n")
                    await asyncio.sleep(0.05)

            dripping = asyncio.create_task(drip())
            await problem(reader, 408, "request-timeout")
            dripping.cancel()
            await closing(writer)

    run(test())


@pytest.mark.parametrize("before", [b"", LINE + b"\r\n"], ids=["new", "used"])
@pytest.mark.parametrize("sent", [b"", b"\r\n"], ids=["nothing", "empty lines"])
def test_a_connection_on_which_no_request_begins_is_closed(run: Run, before: bytes, sent: bytes) -> None:
    async def test() -> None:
        async with listening(header_timeout_s=0.2, keep_alive_s=0.2) as server:
            reader, writer = await server.connect()
            if before:
                writer.write(before)
                await answer(reader)

            async def drip() -> None:
                while True:
                    writer.write(sent)
                    await asyncio.sleep(0.05)

            dripping = asyncio.create_task(drip())
            assert await is_cut_off(reader)
            dripping.cancel()
            await closing(writer)

    run(test())


def test_a_slow_request_in_between_two_quick_ones_is_timed_anew(run: Run) -> None:
    async def test() -> None:
        async with listening(header_timeout_s=0.3) as server:
            reader, writer = await server.connect()
            for _ in range(4):  # together they take longer than one may
                writer.write(LINE)
                await asyncio.sleep(0.15)
                writer.write(b"\r\n")
                assert (await answer(reader))[0] == 200
            await closing(writer)

    run(test())


def test_a_client_that_does_not_take_its_answer_is_cut_off(run: Run) -> None:
    async def test() -> None:
        async with listening(write_timeout_s=0.2) as server:
            _, writer = await server.connect()
            writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
            await server.until(lambda: bool(server.seen))
            await server.until(lambda: not len(server.connections))
            assert len(server.seen) < 3  # one answer at a time is made and kept
            await closing(writer)

    run(test())


def test_a_client_that_takes_its_answer_is_not(run: Run) -> None:
    async def test() -> None:
        async with listening() as server:
            reader, writer = await server.connect()
            writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            await server.until(lambda: bool(server.seen))
            (connection,) = server.made
            await server.until(lambda: connection._writes is not None)
            assert len((await answer(reader))[2]) == 32 * 1024 * 1024
            await server.until(lambda: connection._writes is None)  # it is not timed any longer
            await closing(writer)

    run(test())


@pytest.mark.parametrize("path", [b"/refuse", b"/refuse/close"])
@pytest.mark.parametrize("length", [b"Content-Length: 1000000000", b"Transfer-Encoding: chunked"])
def test_a_body_that_nobody_wants_is_not_read_and_its_refusal_arrives(run: Run, path: bytes, length: bytes) -> None:
    async def test() -> None:
        async with listening() as server:
            reader, writer = await server.connect()
            writer.write(b"POST " + path + b" HTTP/1.1\r\nHost: x\r\n" + length + b"\r\n\r\n")
            chunked = length.startswith(b"Transfer")

            async def send() -> None:
                while True:
                    writer.write((b"10000\r\n" if chunked else b"") + bytes(0x10000) + (b"\r\n" if chunked else b""))
                    await writer.drain()

            sending = asyncio.create_task(send())
            status, headers, body = await answer(reader)
            assert (status, body) == (413, b"refused")
            assert (headers.get("connection") == "close") == (path == b"/refuse/close")
            assert await reader.read() == b""
            await server.until(lambda: not len(server.connections))
            assert server.received_bytes <= 5 * READ_BYTES  # two before the answer, two that are allowed, and one more
            await asyncio.gather(sending, return_exceptions=True)
            writer.close()

    run(test())


def test_a_little_of_what_nobody_wants_is_read_and_the_connection_goes_on(run: Run) -> None:
    async def test() -> None:
        async with listening() as server:
            reader, writer = await server.connect()
            for _ in range(3):
                writer.write(b"POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 30000\r\n\r\n")
                assert (await answer(reader))[0] == 413
                writer.write(bytes(30_000))
            writer.write(LINE + b"\r\n")
            assert (await answer(reader))[0] == 200
            await closing(writer)

    run(test())


def test_the_rest_of_what_nobody_wants_may_not_take_for_ever(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.transports.protocol._LEFTOVER_S", 0.1)

    async def test() -> None:
        async with listening() as server:
            reader, writer = await server.connect()
            writer.write(b"POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 30000\r\n\r\n")
            assert (await answer(reader))[0] == 413
            assert await reader.read() == b""
            await server.until(lambda: not len(server.connections))  # whether the client closes or not
            await closing(writer)

    run(test())


def test_of_too_many_connections_the_one_that_waits_longest_is_cut_off(run: Run) -> None:
    async def test() -> None:
        async with listening(connections=3) as server:
            at_work, writer = await server.connect()
            writer.write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
            await server.entered.wait()
            slow = await server.connect()
            slow[1].write(LINE)
            used = await server.connect()
            for reader, each in (used,):
                each.write(LINE + b"\r\n")
                assert (await answer(reader))[0] == 200
            new = await server.connect()
            assert await is_cut_off(slow[0])
            for reader, each in (used, new):
                each.write(LINE + b"\r\n")
                assert (await answer(reader))[0] == 200
            server.gate.set()
            assert (await answer(at_work))[0] == 200
            for each in (writer, slow[1], used[1], new[1]):
                await closing(each)

    run(test())


def test_where_all_are_at_work_the_new_one_is_cut_off(run: Run) -> None:
    async def test() -> None:
        async with listening(connections=2) as server:
            opened = [await server.connect() for _ in range(2)]
            for _, writer in opened:
                writer.write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
            await server.until(lambda: len(server.seen) == 2)
            reader, writer = await server.connect()
            assert await is_cut_off(reader)
            writer.close()
            server.gate.set()
            for reader, writer in opened:
                assert (await answer(reader))[0] == 200
                await closing(writer)

    run(test())


def test_after_leaving_each_answer_is_the_last_of_its_connection(run: Run) -> None:
    async def test() -> None:
        async with listening() as server:
            busy, idle = await server.connect(), await server.connect()
            busy[1].write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
            await server.entered.wait()
            server.connections.leave()
            new = await server.connect()
            server.gate.set()
            for reader, writer in (busy, idle, new):
                if reader is not busy[0]:
                    writer.write(LINE + b"\r\n")
                status, headers, _ = await answer(reader)
                assert (status, headers["connection"]) == (200, "close")
                assert await reader.read() == b""
                await closing(writer)

    run(test())


def test_what_is_no_request_is_a_400(run: Run) -> None:
    async def test() -> None:
        async with listening() as server:
            for nonsense in (
                b"\x16\x03\x01\x02\x00\x01\x00",
                b"GET /\xff HTTP/1.1\r\n\r\n",
                LINE + b"A\x00: b\r\n\r\n",
            ):
                reader, writer = await server.connect()
                writer.write(nonsense)
                await problem(reader, 400, "unreadable-request")
                await closing(writer)
            assert not server.seen

    run(test())


@pytest.mark.parametrize("after", [b"nonsense\r\n\r\n", (LINE + b"\r\n") * 60], ids=["nonsense", "too many"])
def test_what_comes_behind_a_request_does_not_take_its_answer(run: Run, after: bytes) -> None:
    async def test() -> None:
        async with listening() as server:
            reader, writer = await server.connect()
            writer.write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n" + after)
            await server.entered.wait()
            server.gate.set()
            status, headers, _ = await answer(reader)
            assert (status, headers["connection"]) == (200, "close")
            assert await reader.read() == b""
            await closing(writer)

    run(test())


def test_requests_that_come_together_are_answered_in_their_order(run: Run) -> None:
    async def test() -> None:
        async with listening() as server:
            reader, writer = await server.connect()
            writer.write((LINE + b"\r\n" + b"GET /refuse HTTP/1.1\r\nHost: x\r\n\r\n") * 10)
            assert [(await answer(reader))[0] for _ in range(20)] == [200, 413] * 10
            await closing(writer)

    run(test())


@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"], ids=["", "expected"])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_body_that_breaks_off_in_nonsense_is_a_400_and_the_app_is_told(
    run: Run, expect: bytes, at_once: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with listening() as server:
            reader, writer = await server.connect()
            writer.write(b"POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + expect + b"\r\n")
            if at_once:  # so that the app learns of it with the first that it asks for
                writer.write(b"no number\r\n")
            await server.entered.wait()
            if expect and not at_once:
                assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
                await reader.readline()
            if not at_once:
                writer.write(b"no number\r\n")
            await problem(reader, 400, "unreadable-request")
            await server.gone.wait()
            await closing(writer)

    run(test())
    assert not caplog.records


@pytest.mark.parametrize("to", [b"websocket", b"h2c"])
def test_who_asks_for_another_protocol_is_answered_in_this_one(run: Run, to: bytes) -> None:
    async def test() -> None:
        async with listening() as server:
            reader, writer = await server.connect()
            writer.write(LINE + b"Connection: Upgrade\r\nUpgrade: " + to + b"\r\n\r\n")
            status, headers, _ = await answer(reader)
            assert (status, headers["connection"]) == (200, "close")
            assert await reader.read() == b""
            await closing(writer)

    run(test())


def test_what_follows_a_body_in_chunks_is_no_header(run: Run) -> None:
    async def test() -> None:
        async with listening() as server:
            reader, writer = await server.connect()
            writer.write(b"POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            writer.write(b"3\r\nabc\r\n0\r\nX-API-Key: secret\r\n\r\n")
            assert (await answer(reader))[0] == 200
            assert server.bodies == [3]
            assert {name for name, _ in server.seen[0]["headers"]} == {b"host", b"transfer-encoding"}
            await closing(writer)

    run(test())


@pytest.mark.parametrize("trailer", [b"A: " + b"a" * (8 * READ_BYTES), b"A: a\r\n" * 20_000], ids=["one", "many"])
def test_nor_can_it_be_endless(run: Run, trailer: bytes) -> None:
    async def test() -> None:
        async with listening() as server:
            reader, writer = await server.connect()
            writer.write(b"POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n")
            writer.write(trailer)
            await problem(reader, 431, "header-too-large")
            assert server.received_bytes <= 4096 + 3 * READ_BYTES
            await closing(writer)

    run(test())


def test_a_request_has_been_here_since_before_its_turn(run: Run) -> None:
    async def scenario() -> None:
        async with listening() as found:
            reader, writer = await found.connect()
            began = time.perf_counter()
            found.connections.reads.since = lambda: began - 5.0  # type: ignore[method-assign]
            writer.write(b"GET /read HTTP/1.1\r\nhost: x\r\n\r\n")
            await answer(reader)
            (scope,) = found.seen
            assert scope[ARRIVED] == began - 5.0
            writer.close()

    run(scenario())
