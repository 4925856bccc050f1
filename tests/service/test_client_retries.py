"""When a call is repeated, and how long after; nothing here waits."""

from __future__ import annotations

from collections.abc import Iterator
from time import tzset
from typing import Any

import httpx
import pytest

from service.client import NO_RETRIES, NoAnswer, ProblemError, Retries, UnexpectedAnswer
from service.client._retries import retry_after_s
from tests.clients import KINDS, Server, Step, Time, entries, fine, opened, said


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def time() -> Time:
    return Time()


# --- What is repeated ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [
        said(429),
        said(503),
        lambda: httpx.Response(503, content=b"<html>a proxy</html>"),
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout(""),
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("disconnected"),
    ],
)
def test_what_may_pass_is_tried_again(kind: str, time: Time, failure: Step) -> None:
    server = Server(failure, failure, fine)
    with opened(kind, server, clock=time.clock) as client:
        assert client.classify("mnist", [b"picture"]).model == "mnist"
    assert len(server.requests) == 3
    assert len(time.waits) == 2
    assert all(b"picture" in request.content for request in server.requests)


@pytest.mark.parametrize("status", [400, 401, 404, 413, 415, 422, 500, 504])
def test_what_will_not_pass_is_said_at_once(kind: str, time: Time, status: int) -> None:
    server = Server(said(status, retry_after="1"))
    with opened(kind, server, clock=time.clock) as client, pytest.raises(ProblemError) as error:
        client.classify("mnist", [b""])
    assert error.value.status == status
    assert (len(server.requests), time.waits) == (1, [])


@pytest.mark.parametrize("error", [httpx.UnsupportedProtocol("no protocol"), httpx.LocalProtocolError("bad header")])
def test_what_is_wrong_with_the_request_itself_is_not_repeated(kind: str, time: Time, error: Exception) -> None:
    server = Server(error)
    with (
        opened(kind, server, clock=time.clock) as client,
        pytest.raises(NoAnswer, match="no answer from http://server"),
    ):
        client.models()
    assert len(server.requests) == 1


@pytest.mark.parametrize("method", ["load", "unload"])
def test_a_change_is_repeated_only_where_no_connection_was_made(kind: str, time: Time, method: str) -> None:
    server = Server(httpx.ConnectError("refused"), httpx.ConnectTimeout(""), entries)
    with opened(kind, server, clock=time.clock) as client:
        assert getattr(client, method)("mnist") == []
    assert len(server.requests) == 3
    for failure in (httpx.ReadError("reset"), httpx.RemoteProtocolError("gone"), httpx.ReadTimeout("")):
        server = Server(failure, entries)
        with opened(kind, server, clock=time.clock) as client, pytest.raises(NoAnswer):
            getattr(client, method)("mnist")
        assert len(server.requests) == 1
    for status in (429, 503):
        server = Server(said(status, retry_after="1"), entries)
        with opened(kind, server, clock=time.clock) as client, pytest.raises(ProblemError):
            getattr(client, method)("mnist")
        assert len(server.requests) == 1


def test_after_the_last_attempt_the_last_words_are_raised(kind: str, time: Time) -> None:
    server = Server(httpx.ConnectError("refused"), said(429), said(503))
    with (
        opened(kind, server, clock=time.clock, retries=Retries(attempts=3)) as client,
        pytest.raises(ProblemError) as error,
    ):
        client.models()
    assert error.value.status == 503
    assert len(server.requests) == 3
    server = Server(lambda: httpx.Response(429, content=b"slow down"))
    with opened(kind, server, clock=time.clock) as client, pytest.raises(UnexpectedAnswer, match="429"):
        client.models()
    assert len(server.requests) == Retries().attempts


def test_without_retries_there_is_one_request(kind: str, time: Time) -> None:
    for failure, error in ((said(503), ProblemError), (httpx.ConnectError("refused"), NoAnswer)):
        server = Server(failure)
        with opened(kind, server, clock=time.clock, retries=NO_RETRIES) as client, pytest.raises(error):
            client.models()
        assert (len(server.requests), time.waits) == (1, [])


def test_the_cause_of_no_answer_is_kept(kind: str) -> None:
    cause = httpx.ConnectError("refused")
    with opened(kind, Server(cause), retries=NO_RETRIES) as client, pytest.raises(NoAnswer) as error:
        client.models()
    assert error.value.__cause__ is cause


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose local time is not GMT, which dates in HTTP are in."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "JST-9")
        tzset()
        yield
    tzset()


# --- How long after --------------------------------------------------------------------------------------------------


def test_the_bound_of_the_wait_doubles_up_to_the_longest(kind: str, time: Time) -> None:
    retries = Retries(attempts=6, first_backoff_s=0.5, longest_backoff_s=3.0)
    with opened(kind, Server(said(503)), clock=time.clock, retries=retries) as client, pytest.raises(ProblemError):
        client.models()
    assert time.waits == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_the_wait_is_drawn_between_nothing_and_its_bound() -> None:
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return low + (high - low) / 4

    assert Retries(first_backoff_s=2.0, longest_backoff_s=100.0).backoff_s(3, uniform) == 2.0
    assert drawn == [(0.0, 8.0)]
    assert Retries(longest_backoff_s=7.0).backoff_s(100_000, uniform) == 1.75


@pytest.mark.parametrize(
    "values", [{"attempts": 0}, {"first_backoff_s": -1.0}, {"longest_backoff_s": float("nan")}, {"attempts": -3}]
)
def test_retries_that_are_none_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no way to repeat"):
        Retries(**values)


def test_the_server_says_how_long_to_wait(kind: str, time: Time) -> None:
    server = Server(
        said(429, retry_after="7"),
        said(503, retry_after="Wed, 21 Oct 2015 07:28:05 GMT", date="Wed, 21 Oct 2015 07:28:00 GMT"),
        fine,
    )
    with opened(kind, server, clock=time.clock) as client:
        client.classify("mnist", [b""])
    assert time.waits == [7.0, 5.0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", 3.0),
        (" 120 ", 120.0),
        ("0", 0.0),
        ("9" * 400, float("inf")),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
        ("Wednesday, 21-Oct-15 07:28:30 GMT", 30.0),
        ("Wed Oct 21 07:28:30 2015", 30.0),
        ("Wed, 21 Oct 2015 07:00:00 GMT", 0.0),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("soon", None),
        ("Wed, 99 Oct 2015 07:28:30 GMT", None),
        ("", None),
    ],
)
def test_both_forms_of_retry_after_are_read_and_nothing_else(
    text: str, expected: float | None, elsewhere: None
) -> None:
    now_s = 1445412480.0  # 21 October 2015, 7:28 GMT
    assert retry_after_s(httpx.Headers({b"retry-after": text.encode()}), now_s) == expected
    assert retry_after_s({}, now_s) is None


def test_a_date_is_read_by_the_servers_own_clock() -> None:
    headers = {"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT", "date": "Wed, 21 Oct 2015 07:28:10 GMT"}
    assert retry_after_s(headers, 0.0) == 20.0
    assert retry_after_s(headers | {"date": "today"}, 1445412480.0) == 30.0
