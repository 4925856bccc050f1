"""What a request meets when the engine is slow, fails, or the client does not wait: with an engine that can be held."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from service import schemas
from tests import tiny
from tests.conftest import Gated
from tests.serving import PATIENCE_S, RunningApp

CLASSIFY = "/v1/models/tiny/classify"
ONE = {"instances": tiny.images(1).tolist()}
FOUR = {"instances": tiny.images(4).tolist()}


def requests(running: RunningApp, code: int) -> float | None:
    return running.metric("lmht_requests_total", model="tiny", code=str(code))


def rejected(running: RunningApp, reason: str) -> float | None:
    return running.metric("lmht_rejected_total", reason=reason)


def scope(body_type: str = "application/json") -> dict[str, Any]:
    return {
        "type": "http",
        "method": "POST",
        "path": CLASSIFY,
        "raw_path": CLASSIFY.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "headers": [(b"content-type", body_type.encode())],
    }


def test_a_deadline_fires_while_the_engine_is_busy_and_drops_what_waits(gated: Gated) -> None:
    running, engine = gated()
    engine.gate.clear()
    busy = running.begin_post(CLASSIFY, json=ONE)
    assert engine.entered.wait(PATIENCE_S)
    late = running.post(CLASSIFY, json={**FOUR, "deadline_ms": 20, "timesteps": 1})
    assert late.status_code == 504
    assert "20 ms" in schemas.Problem.model_validate(late.json()).detail
    assert running.services.scheduler.queued_images == 0
    engine.gate.set()
    assert busy.result(PATIENCE_S).status_code == 200
    assert engine.images_run == 1
    assert rejected(running, "deadline_passed") == requests(running, 504) == 1


def test_a_deadline_fires_while_its_own_batch_runs(gated: Gated) -> None:
    running, engine = gated()
    engine.gate.clear()
    assert running.post(CLASSIFY, json={**ONE, "deadline_ms": 20}).status_code == 504


def test_a_deadline_counts_from_the_requests_arrival(gated: Gated) -> None:
    running, engine = gated()
    # The engine takes microseconds, which is less than it takes to read the request.
    running.services.scheduler.seed(("tiny", 1), 1, {1: 1e-12})
    late = running.post(CLASSIFY, json={**ONE, "timesteps": 1, "deadline_ms": 1e-6})
    assert late.status_code == 504
    assert running.post(CLASSIFY, json={**ONE, "deadline_ms": 3.6e6}).status_code == 200
    assert engine.images_run == 1


def test_a_deadline_that_no_budget_could_meet_even_alone_is_a_mistake_of_the_client(gated: Gated) -> None:
    running, _ = gated()
    for timesteps in tiny.BUDGETS:
        running.services.scheduler.seed(("tiny", 1), timesteps, {1: 0.1 * timesteps, 4: 0.2 * timesteps})
    for options in ({"deadline_ms": 50, "timesteps": "auto"}, {"deadline_ms": 150, "timesteps": 2}):
        refused = running.post(CLASSIFY, json={**ONE, **options})
        assert refused.status_code == 422
        assert refused.json()["type"] == "urn:problem-type:lmht:deadline-too-short"
        assert f"the deadline is {options['deadline_ms']} ms" in refused.json()["detail"]
    assert running.post(CLASSIFY, json={**ONE, "deadline_ms": 150, "timesteps": "auto"}).status_code == 200


def test_what_cannot_be_done_in_time_behind_what_waits_is_refused_at_once(gated: Gated) -> None:
    running, engine = gated()
    engine.gate.clear()
    running.services.scheduler.seed(("tiny", 1), 4, {1: 100.0})
    running.services.scheduler.seed(("tiny", 1), 1, {1: 0.001})
    busy = running.begin_post(CLASSIFY, json={**ONE, "timesteps": 4})
    assert engine.entered.wait(PATIENCE_S)
    refused = running.post(CLASSIFY, json={**ONE, "timesteps": 1, "deadline_ms": 5000})
    assert refused.status_code == 429
    assert refused.json()["type"] == "urn:problem-type:lmht:too-busy"
    assert 90 <= int(refused.headers["retry-after"]) <= 101
    engine.gate.set()
    assert busy.result(PATIENCE_S).status_code == 200
    assert rejected(running, "too_busy") == requests(running, 429) == 1


def test_an_engine_that_hangs_ends_readiness_until_it_comes_back(gated: Gated) -> None:
    running, engine = gated(engine_timeout_s=0.05)
    engine.gate.clear()
    assert running.post(CLASSIFY, json=ONE).status_code == 500
    assert running.get("/readyz").status_code == 503
    assert "has not come back" in running.get("/readyz").json()["detail"]
    assert running.post(CLASSIFY, json=ONE).status_code == 503
    assert running.get("/livez").status_code == 200
    engine.gate.set()
    running.until(lambda: running.services.scheduler.stalled is None)
    assert running.get("/readyz").status_code == 200
    assert running.post(CLASSIFY, json=ONE).status_code == 200


def test_what_does_not_fit_the_queue_is_told_when_to_come_back(gated: Gated) -> None:
    running, engine = gated(queue_capacity=4, max_images=4)
    engine.gate.clear()
    busy = running.begin_post(CLASSIFY, json=ONE)
    assert engine.entered.wait(PATIENCE_S)
    waiting = running.begin_post(CLASSIFY, json=FOUR)
    running.until(lambda: running.services.scheduler.queued_images == 4)
    assert running.metric("lmht_queued_images") == 4
    refused = running.post(CLASSIFY, json=ONE)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    engine.gate.set()
    assert busy.result(PATIENCE_S).status_code == waiting.result(PATIENCE_S).status_code == 200
    assert rejected(running, "queue_full") == requests(running, 429) == 1
    assert running.metric("lmht_queued_images") == 0


def test_a_failing_engine_is_a_500_with_a_logged_id_and_no_internals(
    gated: Gated, caplog: pytest.LogCaptureFixture
) -> None:
    running, engine = gated()
    engine.error = RuntimeError("secret /path/of/this/machine")
    with caplog.at_level(logging.ERROR, "lmht"):
        response = running.post(CLASSIFY + "?id=broken-one", json=ONE)
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "secret" not in response.text
    assert response.json()["request_id"] == "broken-one"
    assert "broken-one" in caplog.text
    assert "secret" in caplog.text
    engine.error = None
    assert running.post(CLASSIFY, json=ONE).status_code == 200


def test_a_client_that_goes_away_leaves_the_queue_and_its_batch_mates_are_answered(gated: Gated) -> None:
    running, engine = gated()
    engine.gate.clear()
    busy = running.begin_post(CLASSIFY, json=ONE)
    assert engine.entered.wait(PATIENCE_S)
    leave = asyncio.Event()
    sent: list[Any] = []

    async def receive_body() -> AsyncIterator[dict[str, Any]]:
        yield {"type": "http.request", "body": orjson.dumps(ONE), "more_body": False}
        await leave.wait()
        yield {"type": "http.disconnect"}

    messages = receive_body()

    async def send(message: Any) -> None:
        sent.append(message)

    async def leaving() -> None:
        await running.app(scope(), lambda: anext(messages), send)

    gone = running.start(leaving())
    running.until(lambda: running.services.scheduler.queued_images == 1)
    mate = running.begin_post(CLASSIFY, json=ONE)
    running.until(lambda: running.services.scheduler.queued_images == 2)
    running.call(leave.set)
    gone.result(PATIENCE_S)
    assert running.services.scheduler.queued_images == 1
    assert sent == []
    engine.gate.set()
    assert busy.result(PATIENCE_S).status_code == mate.result(PATIENCE_S).status_code == 200
    assert engine.images_run == 2
    assert rejected(running, "client_gone") == requests(running, 499) == 1


def test_a_client_that_goes_away_while_sending_is_not_answered(gated: Gated) -> None:
    running, _ = gated()
    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    running.run(running.app(scope(), receive, send))
    assert sent == []
    assert requests(running, 499) == 1


@pytest.mark.parametrize("declared", [None, b"10", b"junk"])
def test_a_body_over_the_limit_is_refused_where_it_exceeds_it(gated: Gated, declared: bytes | None) -> None:
    running, _ = gated(max_body_bytes=10_000)
    pulled = 0
    sent: list[Any] = []

    async def receive() -> Any:
        nonlocal pulled
        pulled += 1
        return {"type": "http.request", "body": bytes(3000), "more_body": pulled < 20}

    async def send(message: Any) -> None:
        sent.append(message)

    request = scope("image/png")
    if declared is not None:  # a Content-Length that lies
        request["headers"].append((b"content-length", declared))
    running.run(running.app(request, receive, send))
    assert pulled == 4
    assert sent[0]["status"] == 413
    assert (b"connection", b"close") in sent[0]["headers"]


def test_a_body_that_says_it_is_too_large_is_not_read_at_all(gated: Gated) -> None:
    running, _ = gated(max_body_bytes=10_000)
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("nothing is to be read")

    async def send(message: Any) -> None:
        sent.append(message)

    request = scope("image/png")
    request["headers"].append((b"content-length", b"10001"))
    running.run(running.app(request, receive, send))
    assert sent[0]["status"] == 413


def test_a_body_in_many_pieces_is_put_together(gated: Gated) -> None:
    running, _ = gated()
    body = orjson.dumps(ONE)
    pieces = [body[start : start + 7] for start in range(0, len(body), 7)]
    messages = iter(
        {"type": "http.request", "body": piece, "more_body": number < len(pieces) - 1}
        for number, piece in enumerate(pieces)
    )
    sent: list[Any] = []

    async def receive() -> Any:
        message = next(messages, None)
        if message is None:
            await asyncio.Event().wait()
        return message

    async def send(message: Any) -> None:
        sent.append(message)

    running.run(running.app(scope(), receive, send))
    assert sent[0]["status"] == 200
    whole = running.post(CLASSIFY, content=body, headers={"content-type": "application/json"}).json()
    assert orjson.loads(sent[1]["body"])["predictions"] == whole["predictions"]


def test_before_the_end_what_waits_is_answered_and_then_the_engine_is_closed(gated: Gated) -> None:
    running, engine = gated()
    engine.gate.clear()
    first = running.begin_post(CLASSIFY, json=ONE)
    assert engine.entered.wait(PATIENCE_S)
    second = running.begin_post(CLASSIFY, json=FOUR)
    running.until(lambda: running.services.scheduler.queued_images == 4)
    closing = running.start(running.services.close())
    running.until(lambda: running.services.handler.draining)
    refused = running.post(CLASSIFY, json=ONE)
    assert refused.status_code == 503
    assert running.get("/readyz").status_code == 503
    assert running.get("/livez").status_code == 200
    assert not closing.done()
    assert not engine.closed
    engine.gate.set()
    assert first.result(PATIENCE_S).status_code == second.result(PATIENCE_S).status_code == 200
    closing.result(PATIENCE_S)
    assert engine.closed
    assert rejected(running, "not_ready") == 1
