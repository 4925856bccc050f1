"""What the protocol says where the work does not fit, comes too late, or fails."""

from __future__ import annotations

from tests import tiny
from tests.conftest import Gated
from tests.inference import INFER, error, fp32, post
from tests.serving import PATIENCE_S, RunningApp

IMAGE = tiny.images(1)
GOOD = fp32(IMAGE)


def counted(running: RunningApp, code: int) -> float | None:
    return running.metric("lmht_requests_total", model="tiny", code=str(code))


def test_a_timeout_that_passes_is_a_504(gated: Gated) -> None:
    running, engine = gated()
    engine.gate.clear()
    busy = running.begin_post(INFER, content=GOOD.content, headers=GOOD.headers)
    assert engine.entered.wait(PATIENCE_S)
    late = post(running, fp32(IMAGE, parameters={"timeout": 20_000}))
    assert "the deadline of 20 ms has passed" in error(late, 504)
    assert running.services.scheduler.queued_images == 0
    engine.gate.set()
    assert busy.result(PATIENCE_S).status_code == 200
    assert counted(running, 504) == 1
    assert counted(running, 200) == 1


def test_what_does_not_fit_the_queue_is_a_429_that_says_when_to_come_back(gated: Gated) -> None:
    running, engine = gated(queue_capacity=1, max_images=1)
    engine.gate.clear()
    busy = [running.begin_post(INFER, content=GOOD.content, headers=GOOD.headers)]
    assert engine.entered.wait(PATIENCE_S)
    busy.append(running.begin_post(INFER, content=GOOD.content, headers=GOOD.headers))
    running.until(lambda: running.services.scheduler.queued_images == 1)
    refused = post(running, GOOD)
    assert "the queue has no room for 1 more images" in error(refused, 429)
    assert int(refused.headers["retry-after"]) >= 1
    engine.gate.set()
    assert [each.result(PATIENCE_S).status_code for each in busy] == [200, 200]
    assert counted(running, 429) == running.metric("lmht_rejected_total", reason="queue_full") == 1


def test_a_deadline_that_no_budget_could_meet_is_a_400(gated: Gated) -> None:
    running, _ = gated()
    running.services.scheduler.seed(("tiny", 1), 4, {1: 100.0})
    assert "the deadline is 50 ms" in error(post(running, fp32(IMAGE, parameters={"timeout": 50_000})), 400)


def test_a_server_that_ends_is_a_503(gated: Gated) -> None:
    running, _ = gated()
    running.services.handler.draining = True
    assert "shutting down" in error(post(running, GOOD), 503)
    for path in ("/v2/health/ready", "/v2/models/tiny", "/v2/models/tiny/ready", "/v2/models/tiny/config"):
        assert "shutting down" in error(running.get(path), 503)
    assert running.get("/v2/health/live").json() == {"live": True}


def test_a_failing_engine_is_a_500_without_internals(gated: Gated) -> None:
    running, engine = gated()
    engine.error = RuntimeError("secret /path/of/this/machine")
    response = post(running, fp32(IMAGE, id="broken-one"))
    text = error(response, 500)
    assert "secret" not in text
    assert "broken-one" in text
    engine.error = None
    assert post(running, GOOD).status_code == 200
