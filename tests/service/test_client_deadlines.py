"""When a call ends, whatever the server does: by its deadline, or when it is cancelled. Nothing here waits."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence

import httpx
import pytest

from service.client import AsyncClient, NoAnswer, ProblemError, TimedOut
from service.client._server import Clock
from tests.clients import KINDS, Server, Time, fine, opened, said
from tests.serving import PATIENCE_S


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def time() -> Time:
    return Time()


# --- The deadline ----------------------------------------------------------------------------------------------------


def test_each_repeat_tells_the_server_what_is_left(kind: str, time: Time) -> None:
    def slow() -> httpx.Response:
        time.now_s += 0.25
        return said(429, retry_after="2")()

    server = Server(slow, slow, fine)
    with opened(kind, server, clock=time.clock) as client:
        client.classify("mnist", [b""], deadline_ms=10_000)
    assert server.deadlines_ms() == [10_000, 7_750, 5_500]


def test_the_same_of_numbers(kind: str, time: Time) -> None:
    server = Server(said(429, retry_after="2"), fine)
    with opened(kind, server, clock=time.clock) as client:
        client.classify_numbers("mnist", [[[[0.0]]]], deadline_ms=10_000)
    assert [re.findall(rb'"deadline_ms":([0-9.]+)', request.content) for request in server.requests] == [
        [b"10000"],
        [b"8000.0"],
    ]


@pytest.mark.parametrize(("deadline_ms", "timeout_s"), [(3000, 30.0), (None, 3.0)])
@pytest.mark.parametrize("retry_after", ["3", "4", "9" * 400])
def test_a_wait_beyond_the_end_is_not_begun(
    kind: str, time: Time, deadline_ms: float | None, timeout_s: float, retry_after: str
) -> None:
    server = Server(said(429, retry_after=retry_after), fine)
    with (
        opened(kind, server, clock=time.clock, timeout_s=timeout_s) as client,
        pytest.raises(ProblemError) as error,
    ):
        client.classify("mnist", [b""], deadline_ms=deadline_ms)
    assert error.value.status == 429
    assert (len(server.requests), time.waits) == (1, [])


def test_a_deadline_may_be_later_than_the_timeout(kind: str, time: Time) -> None:
    server = Server(said(429, retry_after="50"), fine)
    with opened(kind, server, clock=time.clock, timeout_s=30.0) as client:
        client.classify("mnist", [b""], deadline_ms=60_000)
    assert time.waits == [50.0]


def test_a_wait_that_took_too_long_ends_the_call(kind: str, time: Time) -> None:
    """A timer may be late, as on a machine that was asleep."""

    def oversleep(seconds: float) -> None:
        time.now_s += seconds + 100

    async def oversleep_async(seconds: float) -> None:
        oversleep(seconds)

    clock = Clock(time.clock.now_s, time.clock.date_s, oversleep, oversleep_async, uniform=lambda low, high: high)
    server = Server(said(429, retry_after="1"), fine)
    with opened(kind, server, clock=clock) as client, pytest.raises(ProblemError) as error:
        client.classify("mnist", [b""], deadline_ms=10_000)
    assert error.value.status == 429
    assert len(server.requests) == 1


@pytest.mark.parametrize("deadline_ms", [0, -5, float("nan")])
def test_what_is_no_deadline_is_the_servers_to_refuse(kind: str, time: Time, deadline_ms: float) -> None:
    server = Server(said(422))
    with opened(kind, server, clock=time.clock) as client, pytest.raises(ProblemError) as error:
        client.classify("mnist", [b""], deadline_ms=deadline_ms)
    assert error.value.status == 422


def test_every_attempt_has_what_is_left_of_the_call(kind: str, time: Time) -> None:
    def slow() -> httpx.Response:
        time.now_s += 11.0
        return said(503, retry_after="2")()

    server = Server(slow, fine)
    with opened(kind, server, clock=time.clock, timeout_s=20.0) as client:
        client.classify("mnist", [b""])
    limits: Sequence[dict[str, float]] = [request.extensions["timeout"] for request in server.requests]
    assert [(limit["read"], limit["connect"]) for limit in limits] == [(20.0, 10.0), (7.0, 7.0)]


def test_silence_until_the_end_is_told_from_a_server_that_is_not_there(kind: str, time: Time) -> None:
    def silent() -> httpx.Response:
        time.now_s += 30.0
        raise httpx.ReadTimeout("")

    with (
        opened(kind, Server(silent), clock=time.clock) as client,
        pytest.raises(TimedOut, match="timed out after 30 s"),
    ):
        client.models()
    with (
        opened(kind, Server(httpx.ConnectTimeout("")), clock=time.clock) as client,
        pytest.raises(NoAnswer) as error,
    ):
        client.models()
    assert not isinstance(error.value, TimedOut)


def test_an_answer_that_trickles_does_not_outlast_the_deadline(time: Time) -> None:
    pieces: list[int] = []

    class Trickling(httpx.SyncByteStream):
        closed = False

        def __iter__(self) -> Iterator[bytes]:
            for piece in range(100):
                time.now_s += 1.0
                pieces.append(piece)
                yield b" "

        def close(self) -> None:
            self.closed = True

    stream = Trickling()
    with (
        opened("sync", lambda _: httpx.Response(200, stream=stream), clock=time.clock) as client,
        pytest.raises(TimedOut),
    ):
        client.classify("mnist", [b""], deadline_ms=5000)
    assert len(pieces) == 5
    assert stream.closed


# --- The asynchronous client alone -----------------------------------------------------------------------------------


class Hanging(httpx.AsyncBaseTransport):
    """A server that takes a request and never answers."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.left = asyncio.Event()
        self.requests = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        self.asked.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.left.set()
        raise AssertionError


def test_cancelling_a_call_ends_its_request() -> None:
    async def run() -> int:
        transport = Hanging()
        async with AsyncClient("http://server", transport=transport) as client, asyncio.timeout(PATIENCE_S):
            call = asyncio.create_task(client.models())
            await transport.asked.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await transport.left.wait()
        return transport.requests

    assert asyncio.run(run()) == 1


def test_cancelling_a_call_that_waits_sends_nothing_more(time: Time) -> None:
    server = Server(said(429, retry_after="1"), fine)

    async def run() -> None:
        waiting = asyncio.Event()

        async def for_ever(_: float) -> None:
            waiting.set()
            await asyncio.get_running_loop().create_future()

        clock = Clock(sleep_async=for_ever)
        transport = httpx.MockTransport(server)
        async with AsyncClient("http://server", transport=transport, clock=clock) as client:
            async with asyncio.timeout(PATIENCE_S):
                call = asyncio.create_task(client.classify("mnist", [b""]))
                await waiting.wait()
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call

    asyncio.run(run())
    assert len(server.requests) == 1


def test_a_server_that_only_keeps_the_connection_open_does_not_outlast_the_deadline() -> None:
    """httpx limits each step; a transport that ignores that shows that the whole is limited."""

    async def run() -> None:
        async with AsyncClient("http://server", transport=Hanging()) as client, asyncio.timeout(PATIENCE_S):
            with pytest.raises(TimedOut):
                await client.classify("mnist", [b""], deadline_ms=5)

    asyncio.run(run())


def test_someone_elses_timeout_is_not_taken_for_the_servers() -> None:
    async def run() -> None:
        transport = Hanging()
        async with AsyncClient("http://server", transport=transport) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await client.models()

    asyncio.run(run())
