"""Which requests get a line in the log."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from service.observing import Asked, Outcome
from service.observing.request_log import Ration, RequestLog
from service.observing.trace_context import TraceContext

ASKED = Asked("POST", "/v1/models/tiny/classify", "http", "10.0.0.1", "")
DONE = Outcome("mine", None, ASKED, 200, "", arrived=1.0, ended=1.25)
SAMPLED, UNSAMPLED = (TraceContext("a" * 32, "b" * 16, flags) for flags in (1, 0))


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "lmht.requests")
    return caplog


def fields(record: logging.LogRecord) -> dict[str, Any]:
    found: dict[str, Any] = record.__dict__["lmht_fields"]
    return found


def test_a_share_of_the_requests_is_chosen() -> None:
    draws = iter([0.0, 0.24, 0.25, 0.9])
    log = RequestLog(0.25, None, draw=lambda: next(draws))
    assert [log.chooses(None) for _ in range(4)] == [True, True, False, False]


@pytest.mark.parametrize(("share", "draw"), [(0.0, 0.0), (1.0, 0.999_999)])
def test_none_and_all_mean_none_and_all(share: float, draw: float) -> None:
    assert RequestLog(share, None, draw=lambda: draw).chooses(None) is bool(share)


def test_what_its_caller_records_is_logged_too_but_only_where_any_is() -> None:
    never = RequestLog(0.001, None, draw=lambda: 0.5)
    assert never.chooses(SAMPLED)
    assert not never.chooses(UNSAMPLED)
    assert not RequestLog(0.0, None).chooses(SAMPLED)


def test_what_went_wrong_here_or_was_slow_is_remarkable() -> None:
    log = RequestLog(0.0, 0.5)
    assert [log.is_remarkable(status, 0.1) for status in (200, 404, 429, 499, 500, 503, 504)] == [False] * 4 + [
        True
    ] * 3
    assert log.is_remarkable(200, 0.6)
    assert not log.is_remarkable(200, 0.5)
    assert not RequestLog(0.0, None).is_remarkable(200, 3600.0)


def test_a_flood_of_what_was_not_chosen_is_thinned_out_and_told_of(lines: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    log = RequestLog(0.0, None, Ration(10.0, clock))
    busy = replace(DONE, status=504, reason="deadline_passed")
    for _ in range(100):
        log.write(busy, chosen=False)
    assert len(lines.records) == 10
    assert {record.levelname for record in lines.records} == {"WARNING"}
    assert not any("left_out" in fields(record) for record in lines.records)
    clock.now += 0.125
    log.write(busy, chosen=False)
    log.write(busy, chosen=False)
    assert len(lines.records) == 11
    assert fields(lines.records[-1])["left_out"] == 90
    log.write(DONE, chosen=True)  # what was chosen is no part of a flood
    assert fields(lines.records[-1])["left_out"] == 1


def test_our_own_faults_are_all_logged_with_their_cause(lines: pytest.LogCaptureFixture) -> None:
    log = RequestLog(0.0, None, Ration(1.0, Clock()))
    broken = replace(DONE, status=500, reason="internal_error", error=RuntimeError("broken"))
    for _ in range(20):
        log.write(broken, chosen=False)
    assert len(lines.records) == 20
    for record in lines.records:
        assert record.levelname == "ERROR"
        assert record.exc_info is not None
        assert record.exc_info[1] is broken.error


def test_a_line_says_what_was_asked_and_what_came_of_it(lines: pytest.LogCaptureFixture) -> None:
    log = RequestLog(1.0, None)
    log.write(replace(DONE, trace=SAMPLED, model="tiny", version="7", images=3, caller="lab", status=429), chosen=True)
    (record,) = lines.records
    assert record.getMessage() == "request mine: POST /v1/models/tiny/classify 429 in 250 ms"
    assert fields(record) == {
        "request_id": "mine",
        "trace_id": "a" * 32,
        "span_id": "b" * 16,
        "method": "POST",
        "path": "/v1/models/tiny/classify",
        "status": 429,
        "client": "10.0.0.1",
        "key": "lab",
        "model": "tiny",
        "version": "7",
        "images": 3,
        "total_ms": 250.0,
    }


def test_a_client_that_went_away_is_named(lines: pytest.LogCaptureFixture) -> None:
    RequestLog(1.0, None).write(replace(DONE, status=499, reason="client_gone"), chosen=True)
    assert lines.records[0].getMessage().endswith("499 in 250 ms, client_gone")
    assert fields(lines.records[0])["client_gone"] is True


def test_what_is_less_severe_than_the_log_takes_is_not_written(lines: pytest.LogCaptureFixture) -> None:
    lines.set_level(logging.WARNING, "lmht.requests")
    log = RequestLog(1.0, None)
    log.write(DONE, chosen=True)
    assert not lines.records
    log.write(replace(DONE, status=503), chosen=True)
    assert len(lines.records) == 1
