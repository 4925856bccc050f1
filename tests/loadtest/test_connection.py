"""HTTP by hand, against a server that does what servers may do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from loadtest.address import Address, address
from loadtest.connection import Connections, Reply
from loadtest.errors import LoadTestError
from tests.loadtest.stub import Stub, response, serving
from tests.serving import PATIENCE_S

CONTENT = b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi"


class Asking:
    """A request that keeps its reply."""

    content = CONTENT

    def __init__(self) -> None:
        self.reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def ended(self, reply: Reply) -> None:
        assert not self.reply.done(), "told twice"
        self.reply.set_result(reply)


def talk(url: str, work: Callable[[Connections], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def main() -> None:
        settings = {"limit": 4, "timeout_s": PATIENCE_S} | options
        pool = Connections(address(url), time.monotonic, **settings)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await work(pool)
        finally:
            pool.close()
            await asyncio.sleep(0)

    asyncio.run(main())


async def asked(pool: Connections, count: int) -> list[Reply]:
    requests = [Asking() for _ in range(count)]
    for request in requests:
        pool.send(request)
    return list(await asyncio.gather(*(request.reply for request in requests)))


async def one(pool: Connections) -> Reply:
    return (await asked(pool, 1))[0]


def test_a_connection_is_used_again_and_times_are_in_order() -> None:
    with serving(lambda _: response(200, b"hello", "inference-header-content-length: 3")) as stub:

        async def work(pool: Connections) -> None:
            for _ in range(3):
                began = time.monotonic()
                reply = await one(pool)
                assert (reply.status, reply.body, reply.json_length) == (200, b"hello", 3)
                assert began <= reply.sent <= reply.ended <= time.monotonic()

        talk(stub.url, work)
        assert [each.connection for each in stub.asked] == [1, 1, 1]
        assert [each.body for each in stub.asked] == [b"hi"] * 3


def test_there_are_no_more_connections_than_may_be_and_the_others_wait() -> None:
    with serving(lambda _: response()) as stub:

        async def work(pool: Connections) -> None:
            replies = await asked(pool, 10)
            assert [reply.status for reply in replies] == [200] * 10
            assert pool.most_open <= 2
            assert pool.waited == 8

        talk(stub.url, work, limit=2)
        assert stub.connections == 2


@pytest.mark.parametrize(
    "pieces",
    [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabcde",
        (b"HTTP/1.1 103 Early\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-", b"length: 5\r\n\r\nab", b"cde"),
    ],
)
def test_answers_in_pieces_and_what_comes_ahead_of_them_are_understood(pieces: bytes | tuple[bytes, ...]) -> None:
    with serving(lambda _: pieces) as stub:

        async def work(pool: Connections) -> None:
            for _ in range(2):
                assert (await one(pool)).body == b"abcde"

        talk(stub.url, work)


def test_a_redirect_is_an_answer_and_nobody_is_asked_there() -> None:
    with serving() as elsewhere, serving(lambda _: response(307, b"", f"location: {elsewhere.url}/x")) as stub:

        async def work(pool: Connections) -> None:
            assert (await one(pool)).status == 307

        talk(stub.url, work)
        assert not elsewhere.asked


def test_an_idle_connection_that_the_server_closed_costs_no_request() -> None:
    with serving(lambda _: response()) as stub:

        async def work(pool: Connections) -> None:
            await asked(pool, 3)
            await asyncio.to_thread(stub.close_connections)
            assert [reply.status for reply in await asked(pool, 3)] == [200] * 3

        talk(stub.url, work)
        assert len(stub.asked) == 6


def test_a_request_that_met_a_connection_being_closed_is_sent_once_more_and_only_once() -> None:
    """The second and third request on any connection are not answered."""
    seen: dict[int, int] = {}

    def behave(asked: Any) -> bytes | None:
        seen[asked.connection] = seen.get(asked.connection, 0) + 1
        return response() if seen[asked.connection] == 1 else None

    with serving(behave) as stub:

        async def work(pool: Connections) -> None:
            assert [(await one(pool)).status for _ in range(3)] == [200] * 3
            assert pool.repeated == 2

        talk(stub.url, work)
        assert [each.connection for each in stub.asked] == [1, 1, 2, 2, 3]


@pytest.mark.parametrize(
    "reply", [None, b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 9\r\n\r\nabc"]
)
def test_no_answer_or_half_of_one_is_lost_and_not_asked_for_again(reply: bytes | None) -> None:
    with serving(lambda _: reply) as stub:

        async def work(pool: Connections) -> None:
            assert (await one(pool)).status == 0
            assert pool.repeated == 0

        talk(stub.url, work)
        assert len(stub.asked) == 1


def test_half_an_answer_on_a_connection_that_was_used_before_is_lost_too() -> None:
    """The server has begun to answer: it may have done what it was asked."""
    half = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 9\r\n\r\nabc"
    replies = iter([response(), half, response()])
    with serving(lambda _: next(replies)) as stub:

        async def work(pool: Connections) -> None:
            assert [(await one(pool)).status for _ in range(2)] == [200, 0]
            assert pool.repeated == 0

        talk(stub.url, work)
        assert len(stub.asked) == 2


def test_who_waited_for_too_long_for_a_connection_is_not_sent_any_more() -> None:
    with serving(lambda _: response(), lambda _: 0.2) as stub:

        async def work(pool: Connections) -> None:
            replies = await asked(pool, 20)
            assert replies[0].status == 200
            assert replies[-1].status == 0

        talk(stub.url, work, limit=1, timeout_s=0.5)
        assert len(stub.asked) < 20


def test_a_closed_connection_is_not_used_again() -> None:
    with serving(lambda _: response(200, b"", "connection: close")) as stub:

        async def work(pool: Connections) -> None:
            assert [(await one(pool)).status for _ in range(3)] == [200] * 3

        talk(stub.url, work)
        assert [each.connection for each in stub.asked] == [1, 2, 3]


def test_who_does_not_answer_is_given_up_and_so_is_who_waited_behind() -> None:
    with serving(lambda _: response(), lambda _: 10 * PATIENCE_S) as stub:

        async def work(pool: Connections) -> None:
            replies = await asked(pool, 3)
            assert [reply.status for reply in replies] == [0, 0, 0]

        talk(stub.url, work, limit=1, timeout_s=0.2)


def test_where_nobody_listens_every_request_is_lost() -> None:
    with serving() as stub:
        url = stub.url

    async def work(pool: Connections) -> None:
        assert [reply.status for reply in await asked(pool, 9)] == [0] * 9

    talk(url, work, limit=2)


def test_closing_ends_what_is_under_way() -> None:
    def never(stub: Stub) -> Callable[[Connections], Coroutine[Any, Any, None]]:
        async def work(pool: Connections) -> None:
            requests = [Asking() for _ in range(3)]
            for request in requests:
                pool.send(request)
            while len(stub.asked) < 1:
                await asyncio.sleep(0)
            pool.close()
            assert [(await request.reply).status for request in requests] == [0] * 3

        return work

    with serving(lambda _: response(), lambda _: 10 * PATIENCE_S) as stub:
        talk(stub.url, never(stub), limit=1)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8000", Address("127.0.0.1", 8000, False, "")),
        ("http://[::1]:80/base/", Address("::1", 80, False, "/base")),
        ("https://example.test", Address("example.test", 443, True, "")),
    ],
)
def test_an_address_is_read_from_its_url(url: str, expected: Address) -> None:
    assert address(url) == expected


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8000", "ftp://a", "http://", "http://a:99999", "http://u:p@a", "http://a?b=c"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(LoadTestError):
        address(url)


def test_a_number_of_six_in_brackets_stands_in_the_host_header() -> None:
    assert address("http://[::1]:80").name == "[::1]:80"
