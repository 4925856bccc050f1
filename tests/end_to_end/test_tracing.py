"""Spans of server processes, as a collector gets them: OTLP over HTTP."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests import tiny
from tests.live import running
from tests.serving import PATIENCE_S

CLASSIFY, ASKED = "/v1/models/tiny/classify", 8
TRACES = [f"{number:032x}" for number in range(1, ASKED + 1)]
SPAN = "b7ad6b7169203331"


@pytest.fixture(autouse=True)
def _no_variables_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


class Collector:
    """Takes spans; ``address`` is what `OTEL_EXPORTER_OTLP_ENDPOINT` is to be."""

    def __init__(self) -> None:
        self.spans: list[tuple[Span, Resource]] = []
        spans = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                body = self.rfile.read(int(self.headers["content-length"]))
                for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                    spans.extend((span, group.resource) for scope in group.scope_spans for span in scope.spans)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def ask(url: str, traces: list[str]) -> list[str]:
    """One request of each trace, over a connection of its own; the `traceparent` of each answer."""
    found = []
    for trace in traces:
        headers = {"traceparent": f"00-{trace}-{SPAN}-01"}
        with httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
            answer = client.post(CLASSIFY, json={"instances": tiny.images(1).tolist()}, headers=headers)
        assert answer.status_code == 200
        found.append(answer.headers["traceparent"])
    return found


def test_a_collector_gets_every_span_of_every_worker_at_the_latest_at_the_end(
    repository: Path, collector: Collector
) -> None:
    # So that nothing but the end sends them.
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.address, "OTEL_BSP_SCHEDULE_DELAY": "3600000"}
    with running(repository, LMHT_TRACING="true", LMHT_WORKERS="2", **variables) as process:
        answered = ask(process.url, TRACES)
        assert not collector.spans
    assert len(collector.spans) == 3 * ASKED
    for trace, parent in zip(TRACES, answered, strict=True):
        own = {span.name: span for span, _ in collector.spans if span.trace_id.hex() == trace}
        request = own["POST /v1/models/{model}/classify"]
        assert request.kind == Span.SPAN_KIND_SERVER
        assert request.parent_span_id.hex() == SPAN
        assert parent == f"00-{trace}-{request.span_id.hex()}-01"
        queue, compute = own["queue"], own["compute"]
        assert queue.parent_span_id == compute.parent_span_id == request.span_id
        assert request.start_time_unix_nano <= queue.start_time_unix_nano <= queue.end_time_unix_nano
        assert queue.end_time_unix_nano == compute.start_time_unix_nano
        assert compute.start_time_unix_nano < compute.end_time_unix_nano <= request.end_time_unix_nano
    resources = [{a.key: a.value.string_value for a in resource.attributes} for _, resource in collector.spans]
    assert {each["service.name"] for each in resources} == {"lmht-serve"}
    assert len({each["service.instance.id"] for each in resources}) in (1, 2)  # who takes a connection is chance


def test_a_collector_that_is_not_there_harms_nobody(repository: Path) -> None:
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    with running(repository, LMHT_TRACING="true", **variables) as process:
        ask(process.url, TRACES)
    assert "Failed to export spans batch" in process.log  # it did try, and says so
