"""Spans by OpenTelemetry: one for a request, below it one for each time it waited for an engine and each that it ran.

Where they go, how many and under which name is for OpenTelemetry's own variables to say (`OTEL_EXPORTER_OTLP_ENDPOINT`,
`OTEL_TRACES_SAMPLER`, `OTEL_SERVICE_NAME`, …); they leave by OTLP over HTTP, from a thread of the SDK's. What it cannot
deliver it drops.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    TraceState,
    set_span_in_context,
)

from service.metrics import CLIENT_GONE
from service.observing.outcome import Outcome
from service.observing.trace_context import TraceContext
from service.passes import Pass

_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_OWN_PROTOCOL = "http/protobuf"
# So long the end of the server waits for spans to be delivered.
_CLOSE_S = 3.0
_SERVER_ERROR = 500
_NS = 1_000_000_000
_log = logging.getLogger("lmht")


class Tracing:
    """Makes spans and hands them on. Nothing of it is global: an app has its own.

    Args:
        version: the server's own.
        processor: takes the spans, instead of what OpenTelemetry's variables ask for.
    """

    def __init__(self, version: str, processor: SpanProcessor | None = None) -> None:
        own = {
            "service.name": "lmht-serve",
            "service.version": version,
            "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
        }
        resource = Resource.create(own).merge(OTELResourceDetector().detect())  # the environment's word counts
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor or BatchSpanProcessor(_exporter()))
        self._tracer = self._provider.get_tracer("lmht", version)

    def begin(self, parent: TraceContext | None, route: str) -> SpanOfRequest:
        """The span of a request that has just arrived at an address of this pattern, by POST."""
        now = time.time_ns()
        span = self._tracer.start_span(
            f"POST {route}",
            context=set_span_in_context(NonRecordingSpan(_remote(parent))) if parent else None,
            kind=SpanKind.SERVER,
            # Known from the start, so that a sampler may go by it.
            attributes={"http.request.method": "POST", "http.route": route},
            start_time=now,
        )
        return SpanOfRequest(self._tracer, span, parent, now - time.perf_counter_ns())

    def close(self) -> None:
        """Deliver what is left, or give up after some seconds."""
        # The SDK's own way to end waits for its exporter, which tries again and again, for half a minute.
        ending = threading.Thread(target=self._shut_down, name="lmht-tracing-end", daemon=True)
        ending.start()
        ending.join(_CLOSE_S)
        if ending.is_alive():
            _log.warning("spans could not be delivered within %g s and are lost", _CLOSE_S)

    def _shut_down(self) -> None:
        try:
            self._provider.shutdown()
        except Exception as error:  # whatever an exporter comes up with, the server ends as it should
            _log.warning("the exporter of spans failed at the end: %r", error)


class SpanOfRequest:
    """A request's span, still open. ``offset_ns`` leads from `time.perf_counter` to the time of day."""

    def __init__(self, tracer: Tracer, span: Span, parent: TraceContext | None, offset_ns: int) -> None:
        self._tracer = tracer
        self._span = span
        self._offset_ns = offset_ns
        context = span.get_span_context()
        self.context = TraceContext(
            f"{context.trace_id:032x}",
            f"{context.span_id:016x}",
            int(context.trace_flags),
            parent.state if parent else "",
        )

    @property
    def is_recording(self) -> bool:
        """Whether the sampler chose it."""
        return self._span.is_recording()

    def end(self, outcome: Outcome) -> None:
        """The request is over: describe it, and add what it waited and ran."""
        self._describe(outcome)
        for each in outcome.answer.passes if outcome.answer else ():
            self._add_pass(outcome, each)
        self._span.end(self._time(outcome.ended))

    def _describe(self, outcome: Outcome) -> None:
        span = self._span
        found: dict[str, str | int | float | None] = {
            "url.path": outcome.asked.path,
            "url.scheme": outcome.asked.scheme,
            "client.address": outcome.asked.client,
            "user_agent.original": outcome.asked.agent or None,
            "http.response.status_code": None if outcome.status == CLIENT_GONE else outcome.status,
            "lmht.request_id": outcome.id,
            "lmht.model": outcome.model,
            "lmht.model_version": outcome.version,
            "lmht.images": outcome.images,
            "lmht.key": outcome.caller,
            "lmht.reason": outcome.reason or None,
        }
        if outcome.answer is not None:
            found |= {
                "lmht.model_version": str(outcome.answer.served.version),
                "lmht.timesteps": int(outcome.answer.timesteps.max()),
                "lmht.decode_ms": round(outcome.answer.decode_s * 1000, 3),
            }
        span.set_attributes({name: value for name, value in found.items() if value is not None})
        if outcome.error is not None:
            span.record_exception(outcome.error, timestamp=self._time(outcome.ended))
        if outcome.status >= _SERVER_ERROR:
            # By the semantic conventions an error of the client's is none of the server's span.
            span.set_attribute("error.type", type(outcome.error).__name__ if outcome.error else outcome.reason)
            span.set_status(Status(StatusCode.ERROR))

    def _add_pass(self, outcome: Outcome, each: Pass) -> None:
        """The two spans of a pass, by the scheduler's clock."""
        within = set_span_in_context(self._span)
        attributes: dict[str, str | int] = {
            "lmht.model": outcome.model,
            "lmht.timesteps": each.budget.timesteps,
            "lmht.reason": each.reason,
            "lmht.images": len(each.rows),
        }
        began, ended = each.began, each.began + each.compute_s
        queue = self._tracer.start_span(
            "queue", within, attributes=attributes, start_time=self._time(began - each.queue_s)
        )
        queue.end(self._time(began))
        attributes["lmht.batch_size"] = each.batch_size
        compute = self._tracer.start_span("compute", within, attributes=attributes, start_time=self._time(began))
        compute.end(self._time(ended))

    def _time(self, seconds: float) -> int:
        """Nanoseconds of the time of day."""
        return round(seconds * _NS) + self._offset_ns


def _exporter() -> OTLPSpanExporter:
    asked = next((os.environ[name] for name in _PROTOCOLS if os.environ.get(name)), _OWN_PROTOCOL)
    if asked != _OWN_PROTOCOL:
        _log.warning("%s is asked for, but spans leave by %s only", asked, _OWN_PROTOCOL)
    return OTLPSpanExporter()


def _remote(parent: TraceContext) -> SpanContext:
    return SpanContext(
        int(parent.trace_id, 16),
        int(parent.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(parent.flags),
        trace_state=TraceState.from_header([parent.state] if parent.state else []),
    )
