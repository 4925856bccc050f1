"""Spans of a running app, by the SDK's own exporter in memory."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from service.app import create_app
from service.observing import tracing
from service.observing.tracing import Tracing
from service.settings import Settings
from tests import tiny
from tests.images import encode
from tests.serving import GatedApp, RunningApp

CLASSIFY, INFER = "/v1/models/tiny/classify", "/v2/models/tiny/infer"
PICTURE = encode((tiny.images(1, seed=5)[0, 0] * 255).astype(np.uint8))
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
MS = 1_000_000


@pytest.fixture(autouse=True)
def _no_variables_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


class Traced:
    """An app and the spans that it has made."""

    def __init__(self, served: RunningApp, exporter: InMemorySpanExporter) -> None:
        self.served = served
        self._exporter = exporter

    def spans(self, name: str = "") -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if not name or span.name == name]

    def post(self, path: str = CLASSIFY, **headers: str) -> Any:
        self._exporter.clear()
        return self.served.post(path, content=PICTURE, headers={"content-type": "image/png", **headers})

    @property
    def request(self) -> ReadableSpan:
        """The one request's span."""
        (span,) = [span for span in self.spans() if span.kind is SpanKind.SERVER]
        return span


@contextmanager
def traced(
    repository: Path, open_engine: Callable[..., Any] | None = None, root_path: str = "", **settings: Any
) -> Iterator[Traced]:
    exporter = InMemorySpanExporter()
    app = create_app(
        Settings(models=(repository,), batch_sizes=(1, 4), threads=1, **settings),
        open_engine,
        tracing=Tracing("9.9", SimpleSpanProcessor(exporter)),
    )
    with RunningApp(app, root_path) as served:
        yield Traced(served.ready(), exporter)


@pytest.fixture(scope="module")
def app(repository: Path) -> Iterator[Traced]:
    with traced(repository) as made:
        yield made


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def interval(span: ReadableSpan) -> tuple[int, int]:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time, span.end_time


def names(spans: Sequence[ReadableSpan]) -> list[str]:
    return [span.name for span in spans]


def test_a_request_is_three_spans_of_one_trace(app: Traced) -> None:
    before = time.time_ns()
    response = app.post(f"{CLASSIFY}?timesteps=2&id=mine", **{"user-agent": "test/1"})
    after = time.time_ns()
    answer = response.json()
    assert sorted(names(app.spans())) == ["POST /v1/models/{model}/classify", "compute", "queue"]
    request, (queue,), (compute,) = app.request, app.spans("queue"), app.spans("compute")
    for child in (queue, compute):
        assert child.parent == request.context
        assert child.kind is SpanKind.INTERNAL

    # Each lies within the other, in the time of day, and lasts what the answer says.
    assert before <= interval(request)[0] <= interval(queue)[0]
    assert interval(queue)[1] == interval(compute)[0]
    assert interval(compute)[1] <= interval(request)[1] <= after
    for span, name in ((queue, "queue"), (compute, "compute")):
        began, ended = interval(span)
        assert (ended - began) / MS == pytest.approx(answer["latency_ms"][name], abs=0.002)

    assert attributes(request) == {
        "http.request.method": "POST",
        "http.route": "/v1/models/{model}/classify",
        "url.path": CLASSIFY,
        "url.scheme": "http",
        "client.address": "127.0.0.1",
        "user_agent.original": "test/1",
        "http.response.status_code": 200,
        "lmht.request_id": "mine",
        "lmht.model": "tiny",
        "lmht.model_version": "1",
        "lmht.images": 1,
        "lmht.timesteps": 2,
        "lmht.decode_ms": answer["latency_ms"]["decode"],
    }
    shared = {"lmht.model": "tiny", "lmht.timesteps": 2, "lmht.reason": "requested", "lmht.images": 1}
    assert attributes(queue) == shared
    assert attributes(compute) == shared | {"lmht.batch_size": 1}
    assert request.status.status_code is StatusCode.UNSET


def test_the_answer_names_the_request_s_span(app: Traced) -> None:
    response = app.post()
    context = app.request.context
    assert (
        response.headers["traceparent"]
        == f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    )


def test_the_caller_s_span_is_the_parent(app: Traced) -> None:
    response = app.post(traceparent=f"00-{TRACE}-{SPAN}-01", tracestate="a=1")
    parent = app.request.parent
    assert parent is not None
    assert (parent.trace_id, parent.span_id, parent.is_remote) == (int(TRACE, 16), int(SPAN, 16), True)
    assert {span.context.trace_id for span in app.spans()} == {int(TRACE, 16)}
    assert app.request.context.trace_state.to_header() == "a=1"
    assert response.headers["traceparent"].startswith(f"00-{TRACE}-")
    assert response.headers["tracestate"] == "a=1"


def test_what_the_caller_does_not_record_is_not_recorded_here(app: Traced) -> None:
    response = app.post(traceparent=f"00-{TRACE}-{SPAN}-00")
    assert not app.spans()
    assert response.headers["traceparent"].startswith(f"00-{TRACE}-")
    assert response.headers["traceparent"].endswith("-00")


def test_a_parent_that_is_not_valid_starts_a_trace_anew(app: Traced) -> None:
    app.post(traceparent=f"00-{TRACE}-{SPAN}-01-more")
    assert app.request.parent is None
    assert app.request.context.trace_id != int(TRACE, 16)


def test_opentelemetry_s_own_variable_says_how_many(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    with traced(repository) as app:
        assert app.post().headers["traceparent"].endswith(("-00", "-02"))
        assert not app.spans()
        app.post(traceparent=f"00-{TRACE}-{SPAN}-01")
        assert len(app.spans()) == 3


def test_a_cascade_of_two_passes_has_two_queues_and_two_computes(app: Traced) -> None:
    response = app.post(f"{CLASSIFY}?min_confidence=1")
    (prediction,) = response.json()["predictions"]
    passes = [(each["timesteps"], each["reason"]) for each in prediction["passes"]]
    assert len(passes) == 2
    for name in ("queue", "compute"):
        spans = sorted(app.spans(name), key=interval)
        assert [(attributes(s)["lmht.timesteps"], attributes(s)["lmht.reason"]) for s in spans] == passes
    ends = [interval(span) for name in ("queue", "compute") for span in app.spans(name)]
    first_queue, first_compute, second_queue, second_compute = sorted(ends)
    assert first_queue[1] == first_compute[0] <= first_compute[1] <= second_queue[0] <= second_queue[1]
    assert second_queue[1] == second_compute[0]


def test_requests_of_one_batch_say_so(repository: Path) -> None:
    gate = GatedApp()
    with traced(repository, gate.open_engine, inline_ms=0) as app:
        engine, body = gate.engine, {"instances": tiny.images(1).tolist()}
        engine.entered.clear()
        engine.gate.clear()
        first = app.served.begin_post(CLASSIFY, json=body)
        assert engine.entered.wait(60)
        others = [app.served.begin_post(CLASSIFY, json=body) for _ in range(3)]
        app.served.until(lambda: app.served.services.scheduler.queued_images == 3)
        engine.gate.set()
        for answer in (first, *others):
            assert answer.result(60).status_code == 200
        sizes = sorted(attributes(span)["lmht.batch_size"] for span in app.spans("compute"))
        assert sizes == [1, 3, 3, 3]
        # They ran at the same time, since they ran together.
        assert len({interval(span)[1] - interval(span)[0] for span in app.spans("compute")}) <= 3


@pytest.mark.parametrize("path", [CLASSIFY, INFER])
def test_an_error_of_the_client_is_no_error_of_the_span(app: Traced, path: str) -> None:
    response = app.post(f"{path.replace('tiny', 'nobody')}")
    assert response.status_code == 404
    assert app.request.status.status_code is StatusCode.UNSET
    found = attributes(app.request)
    assert (found["http.response.status_code"], found["lmht.reason"]) == (404, "unknown_model")
    assert names(app.spans()) == [app.request.name]


def test_our_own_fault_is_recorded_with_its_cause(repository: Path) -> None:
    gate = GatedApp()
    with traced(repository, gate.open_engine, inline_ms=0) as app:
        gate.engine.error = RuntimeError("the engine broke")
        assert app.served.post(CLASSIFY, json={"instances": tiny.images(1).tolist()}).status_code == 500
        assert app.request.status.status_code is StatusCode.ERROR
        assert attributes(app.request)["error.type"] == "EngineError"
        (event,) = app.request.events
        assert "the engine broke" in str(dict(event.attributes or {})["exception.message"])


def test_a_deadline_that_passed_is_an_error_and_a_client_that_went_away_has_no_status(repository: Path) -> None:
    gate = GatedApp()
    body = {"instances": tiny.images(1).tolist()}
    with traced(repository, gate.open_engine, inline_ms=0) as app:
        gate.engine.gate.clear()
        assert app.served.post(f"{CLASSIFY}?deadline_ms=50", json=body).status_code == 504
        gone = app.served.begin_post(CLASSIFY, json=body)
        app.served.until(lambda: app.served.services.scheduler.queued_images)
        gone.cancel()
        app.served.until(lambda: len(app.spans()) == 2)
        gate.engine.gate.set()
        late, left = app.spans()
        assert (late.status.status_code, attributes(late)["error.type"]) == (StatusCode.ERROR, "deadline_passed")
        assert attributes(left)["lmht.reason"] == "client_gone"
        assert "http.response.status_code" not in attributes(left)


def test_below_a_prefix_it_is_the_same_spans(repository: Path) -> None:
    with traced(repository, root_path="/below") as app:
        assert app.post(f"/below{CLASSIFY}").status_code == 200
        assert len(app.spans()) == 3
        assert attributes(app.request)["http.route"] == "/v1/models/{model}/classify"


def test_what_serves_is_named_and_the_environment_may_name_it_otherwise(
    app: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.post()
    found = dict(app.request.resource.attributes)
    assert (found["service.name"], found["service.version"]) == ("lmht-serve", "9.9")
    assert str(found["service.instance.id"]).endswith(f":{os.getpid()}")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "digits")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.version=1")
    exporter = InMemorySpanExporter()
    Tracing("9.9", SimpleSpanProcessor(exporter)).begin(None, "/x")._span.end()
    named = dict(exporter.get_finished_spans()[0].resource.attributes)
    assert (named["service.name"], named["service.version"]) == ("digits", "1")
    assert named["deployment.environment.name"] == "test"


class Broken(SpanExporter):
    """Fails in every way that an exporter can."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        raise OSError("nobody there")

    def shutdown(self) -> None:
        raise OSError("nobody there either")


def test_an_exporter_that_fails_harms_no_request(repository: Path) -> None:
    settings = Settings(models=(repository,), batch_sizes=(1,), threads=1)
    with RunningApp(create_app(settings, tracing=Tracing("0", SimpleSpanProcessor(Broken())))) as served:
        response = served.ready().post(CLASSIFY, content=PICTURE, headers={"content-type": "image/png"})
        assert response.status_code == 200


class Hanging(SpanExporter):
    """Does not come back until it is let go."""

    def __init__(self) -> None:
        self.gate, self.entered = threading.Event(), threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.set()
        assert self.gate.wait(60)
        return SpanExportResult.SUCCESS


def test_an_exporter_that_hangs_holds_up_neither_requests_nor_the_end(
    repository: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracing, "_CLOSE_S", 0.01)
    exporter = Hanging()
    settings = Settings(models=(repository,), batch_sizes=(1,), threads=1)
    processor = BatchSpanProcessor(exporter, schedule_delay_millis=1)
    with RunningApp(create_app(settings, tracing=Tracing("0", processor))) as served:
        served.ready()
        for _ in range(3):
            response = served.post(CLASSIFY, content=PICTURE, headers={"content-type": "image/png"})
            assert response.status_code == 200
            assert exporter.entered.wait(60)
    assert "could not be delivered" in caplog.text
    exporter.gate.set()


def test_where_nobody_asks_for_spans_there_are_none_and_nothing_is_imported(repository: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from service.app import create_app; from service.settings import Settings\n"
        f"create_app(Settings(models=(Path({str(repository)!r}),)))\n"
        "assert not [name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))]"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
