"""What a running app logs of its requests, and how it takes part in traces."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service import keys
from service.app import create_app
from service.logs import JsonFormatter
from service.settings import Settings
from tests import tiny
from tests.images import encode
from tests.serving import GatedEngine, RunningApp

Gated = Callable[..., tuple[RunningApp, GatedEngine]]
CLASSIFY, INFER = "/v1/models/tiny/classify", "/v2/models/tiny/infer"
PICTURE = encode((tiny.images(1, seed=5)[0, 0] * 255).astype(np.uint8))
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = {"traceparent": f"00-{TRACE}-{SPAN}-01"}


class Lines:
    """The lines of requests that were logged."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    @property
    def records(self) -> list[logging.LogRecord]:
        return [record for record in self._caplog.records if record.name == "lmht.requests"]

    @property
    def fields(self) -> list[dict[str, Any]]:
        return [record.__dict__["lmht_fields"] for record in self.records]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    caplog.set_level(logging.INFO, "lmht.requests")
    return Lines(caplog)


@contextmanager
def running(repository: Path, root_path: str = "", **settings: Any) -> Iterator[RunningApp]:
    app = create_app(Settings(models=(repository,), batch_sizes=(1, 4), threads=1, **settings))
    with RunningApp(app, root_path) as served:
        yield served.ready()


@pytest.fixture(scope="module")
def logged(repository: Path) -> Iterator[RunningApp]:
    """An app that logs all of its requests."""
    with running(repository, log_requests=1.0) as served:
        yield served


def post(served: RunningApp, path: str = CLASSIFY, **headers: str) -> httpx.Response:
    return served.post(path, content=PICTURE, headers={"content-type": "image/png", **headers})


# --- Traces ------------------------------------------------------------------------------------------------------


def trace_of(response: httpx.Response) -> tuple[str, str, str]:
    found = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", response.headers["traceparent"])
    assert found
    return found[1], found[2], found[3]


@pytest.mark.parametrize(
    "path", [f"{CLASSIFY}?timesteps=1", f"{CLASSIFY}?timesteps=0", "/v1/models/nobody/classify", INFER]
)
def test_an_answer_names_its_own_span_of_the_callers_trace(server: RunningApp, path: str) -> None:
    response = server.post(path, content=PICTURE, headers={"content-type": "image/png", "tracestate": "a=1", **PARENT})
    assert response.status_code in (200, 400, 404, 422)
    trace, span, flags = trace_of(response)
    assert (trace, flags) == (TRACE, "01")
    assert span != SPAN
    assert response.headers["tracestate"] == "a=1"
    assert len(response.headers.get_list("traceparent")) == 1


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/nobody", "/nowhere", "/v2/nowhere"])
def test_so_does_every_other_answer(server: RunningApp, path: str) -> None:
    response = server.get(path, headers=PARENT)
    assert trace_of(response)[0] == TRACE


def test_a_parent_that_is_not_valid_starts_a_trace_anew(server: RunningApp) -> None:
    response = post(server, traceparent=PARENT["traceparent"].upper(), tracestate="a=1")
    trace, _, flags = trace_of(response)
    assert trace not in (TRACE, TRACE.upper())
    assert flags == "02"  # random, and recorded by nobody
    assert "tracestate" not in response.headers


def test_without_a_parent_nobody_is_given_a_trace_for_nothing(server: RunningApp) -> None:
    assert "traceparent" not in post(server).headers
    assert "traceparent" not in server.get("/v1/models").headers


# --- Lines -------------------------------------------------------------------------------------------------------


def test_a_classification_has_one_line_with_all_that_is_known_of_it(logged: RunningApp, lines: Lines) -> None:
    response = post(logged, f"{CLASSIFY}?timesteps=2&id=mine", **PARENT)
    answer = response.json()
    (line,) = lines.fields
    latency = answer["latency_ms"]
    assert line.pop("total_ms") >= latency["total"]
    assert line == {
        "request_id": "mine",
        "trace_id": TRACE,
        "span_id": trace_of(response)[1],
        "method": "POST",
        "path": CLASSIFY,
        "status": 200,
        "client": "127.0.0.1",
        "model": "tiny",
        "version": "1",
        "images": 1,
        "timesteps": 2,
        "budget_reason": "requested",
        "passes": 1,
        "batch_size": 1,
        "decode_ms": latency["decode"],
        "queue_ms": latency["queue"],
        "compute_ms": latency["compute"],
    }


def test_what_the_line_calls_a_trace_the_answer_does_too(logged: RunningApp, lines: Lines) -> None:
    response = post(logged)
    (line,) = lines.fields
    assert trace_of(response)[:2] == (line["trace_id"], line["span_id"])
    assert line["request_id"] == response.headers["x-request-id"]


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        (f"{CLASSIFY}?timesteps=0", 422, "invalid_option"),
        ("/v1/models/nobody/classify", 404, "unknown_model"),
        ("/v1/models/tiny/versions/x/classify", 404, "unknown_version"),
        ("/v2/models/nobody/infer", 404, "unknown_model"),
    ],
)
def test_a_refusal_says_why(logged: RunningApp, lines: Lines, path: str, status: int, reason: str) -> None:
    response = post(logged, path)
    assert response.status_code == status
    (line,) = lines.fields
    assert (line["status"], line["reason"]) == (status, reason)
    assert "timesteps" not in line


def test_other_requests_have_a_line_too_and_probes_have_none(logged: RunningApp, lines: Lines) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/v1/models/tiny", "/v2/nowhere"):
        logged.get(path)
    assert [(line["path"], line["status"]) for line in lines.fields] == [("/v1/models/tiny", 200), ("/v2/nowhere", 404)]


def test_below_a_prefix_it_is_one_line_and_one_trace(repository: Path, lines: Lines) -> None:
    with running(repository, "/below", log_requests=1.0) as served:
        response = post(served, f"/below{CLASSIFY}", **PARENT)
    assert response.status_code == 200
    (line,) = lines.fields
    assert line["model"] == "tiny"
    assert line["request_id"] == response.headers["x-request-id"] == response.json()["id"]
    assert len(response.headers.get_list("traceparent")) == 1


def test_unless_it_is_asked_for_nothing_in_order_is_logged(server: RunningApp, lines: Lines) -> None:
    post(server, **PARENT)
    post(server, f"{CLASSIFY}?timesteps=0")
    server.get("/v1/models")
    assert not lines.records


def test_names_that_a_client_makes_up_are_cut_short(logged: RunningApp, lines: Lines) -> None:
    post(logged, f"/v1/models/{'n' * 3000}/classify")
    logged.get(f"/v1/models/{'n' * 3000}")
    classify, card = lines.fields
    assert len(classify["model"]) < 100
    assert max(len(classify["path"]), len(card["path"])) < 300


def test_neither_keys_nor_pictures_nor_options_are_logged(repository: Path, tmp_path: Path, lines: Lines) -> None:
    key, file = keys.make(), tmp_path / "keys"
    file.write_text(keys.line("lab", key), encoding="utf-8")
    with running(repository, log_requests=1.0, api_keys_file=file, admin_token="the-admin-token") as served:
        for headers in ({"x-api-key": key}, {"authorization": f"Bearer {key}"}, {"x-api-key": "another-secret"}):
            post(served, f"{CLASSIFY}?timesteps=0&surplus=a-private-matter", **headers)
            post(served, CLASSIFY, **headers)
        load = "/v2/repository/models/tiny/load?surplus=a-private-matter"
        served.post(load, headers={"authorization": "Bearer the-admin-token"})
        served.post(CLASSIFY, content=b"a-private-matter", headers={"content-type": "image/png", "x-api-key": key})
    assert [line.get("key") for line in lines.fields] == ["lab"] * 4 + [None] * 3 + ["lab"]
    text = "".join(JsonFormatter().format(record) for record in lines.records)
    for secret in (key, "another-secret", "the-admin-token", "a-private-matter"):
        assert secret not in text


# --- What goes wrong ---------------------------------------------------------------------------------------------


def test_our_own_fault_is_one_line_with_its_cause_under_the_id_that_the_client_got(
    gated: Gated, caplog: pytest.LogCaptureFixture, lines: Lines
) -> None:
    served, engine = gated()
    engine.error = RuntimeError("the engine broke")
    for path in (CLASSIFY, INFER):
        caplog.clear()
        response = served.post(path, json=_numbers(path))
        assert response.status_code == 500
        (line,) = lines.fields
        assert line["request_id"] == response.headers["x-request-id"]
        assert (line["status"], line["reason"], line["images"]) == (500, "internal_error", 1)
        exception = JsonFormatter().format(lines.records[0])
        assert "the engine broke" in exception
        assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1


def test_a_fault_of_another_request_is_one_line_too(
    gated: Gated, caplog: pytest.LogCaptureFixture, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, _ = gated()

    def broken() -> None:
        raise RuntimeError("the registry broke")

    with monkeypatch.context() as patch:
        patch.setattr(served.services.models, "models", broken)
        response = served.get("/v1/models", headers=PARENT)
    assert response.status_code == 500
    (line,) = lines.fields
    assert line["request_id"] == response.headers["x-request-id"] == response.json()["request_id"]
    assert trace_of(response)[0] == line["trace_id"] == TRACE
    assert "the registry broke" in JsonFormatter().format(lines.records[0])
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1


def test_a_deadline_that_passed_and_a_client_that_went_away_are_told_apart(gated: Gated, lines: Lines) -> None:
    served, engine = gated(log_requests=1.0)
    engine.gate.clear()
    late = served.post(f"{CLASSIFY}?deadline_ms=50", json=_numbers(CLASSIFY))
    assert late.status_code == 504
    gone = served.begin_post(CLASSIFY, json=_numbers(CLASSIFY))
    served.until(lambda: served.services.scheduler.queued_images)
    gone.cancel()
    served.until(lambda: not served.services.scheduler.queued_images)
    engine.gate.set()
    served.until(lambda: len(lines.fields) == 2)
    first, second = lines.fields
    assert (first["status"], first["reason"], first["images"]) == (504, "deadline_passed", 1)
    assert (second["status"], second["client_gone"]) == (499, True)
    assert [record.levelname for record in lines.records] == ["WARNING", "INFO"]


def test_slow_requests_are_logged_where_that_is_asked_for(repository: Path, lines: Lines) -> None:
    with running(repository, log_slow_ms=0.0) as served:
        post(served, **PARENT)
        post(served)
    first, second = lines.fields
    assert first["trace_id"] == TRACE
    assert "trace_id" not in second  # when its answer was under way nobody knew yet that it would be slow


def _numbers(path: str) -> dict[str, Any]:
    values = tiny.images(1)
    if path == CLASSIFY:
        return {"instances": values.tolist()}
    data = values.ravel().tolist()
    return {"inputs": [{"name": "images", "datatype": "FP32", "shape": list(values.shape), "data": data}]}
