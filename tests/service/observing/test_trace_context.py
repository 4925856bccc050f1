"""`traceparent` and `tracestate`, against the specification and against OpenTelemetry's own reading of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.observing import trace_context
from service.observing.trace_context import TraceContext, received

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
VALID = f"00-{TRACE}-{SPAN}-01"


def parse(*parents: str, states: tuple[str, ...] = ()) -> TraceContext | None:
    headers = [(b"host", b"x"), *((b"traceparent", parent.encode("latin-1")) for parent in parents)]
    found, heard = received([*headers, *((b"tracestate", state.encode("latin-1")) for state in states)])
    assert heard == bool(parents)
    return found


@pytest.mark.parametrize(
    ("parent", "flags"),
    [
        (VALID, 1),
        (f"00-{TRACE}-{SPAN}-00", 0),
        (f"00-{TRACE}-{SPAN}-03", 3),
        (f"00-{TRACE}-{SPAN}-ff", 3),  # flags that have no meaning yet are not passed on
        (f" {VALID}\t", 1),
        # Of versions to come, what version 00 knows.
        (f"cc-{TRACE}-{SPAN}-01", 1),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", 1),
        (f"cc-{TRACE}-{SPAN}-01-", 1),
    ],
)
def test_what_the_specification_has_as_valid_is_taken(parent: str, flags: int) -> None:
    assert parse(parent) == TraceContext(TRACE, SPAN, flags)


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "00",
        VALID[:-1],
        VALID + "0",
        f"{VALID}-extra",
        f"{VALID}-",
        f"ff-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01.what",
        f"cc-{TRACE}-{SPAN}-012",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN.upper()}-01",
        f"0A-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0A",
        f"00-{TRACE}-{SPAN}-0x",
        f"00-{TRACE[:-1]}.-{SPAN}-01",
        f"00-{TRACE}{SPAN}-01",
        f"00_{TRACE}_{SPAN}_01",
        f"{VALID}\n",
        f"00-{TRACE}-{SPAN}-\xb9\xb9",  # superscripts, which are digits to some
        f"{VALID},{VALID}",
    ],
)
def test_what_is_not_valid_is_no_parent(parent: str) -> None:
    assert parse(parent) is None


def test_two_parents_are_none() -> None:
    assert parse(VALID, VALID) is None


def test_without_a_parent_the_state_says_nothing() -> None:
    assert received([(b"tracestate", b"a=1")]) == (None, False)


@given(st.text("0123456789abcdef", min_size=32, max_size=32), st.text("0123456789abcdef", min_size=16, max_size=16))
def test_what_is_taken_is_what_opentelemetry_takes(trace: str, span: str) -> None:
    parent = f"00-{trace}-{span}-01"
    theirs = get_current_span(TraceContextTextMapPropagator().extract({"traceparent": parent})).get_span_context()
    ours = parse(parent)
    assert theirs.is_valid == (ours is not None)
    if ours:
        assert (int(ours.trace_id, 16), int(ours.span_id, 16)) == (theirs.trace_id, theirs.span_id)


@given(
    st.binary(max_size=80) | st.from_regex(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.{0,3}", fullmatch=True)
)
def test_whatever_is_sent_the_answer_is_valid(parent: bytes) -> None:
    found, _ = received([(b"traceparent", parent)])
    child = found.child() if found else trace_context.new()
    ((name, value),) = child.headers
    assert name == b"traceparent"
    assert parse(value.decode()) == child


def test_a_child_is_a_span_of_its_own_in_the_same_trace() -> None:
    parent = parse(VALID, states=("a=1",))
    assert parent is not None
    children = {parent.child().span_id for _ in range(100)}
    assert len(children) == 100
    assert SPAN not in children
    child = parent.child()
    assert (child.trace_id, child.flags, child.state) == (TRACE, 1, "a=1")
    assert child.headers == [(b"traceparent", f"00-{TRACE}-{child.span_id}-01".encode()), (b"tracestate", b"a=1")]


def test_a_trace_that_begins_here_is_recorded_by_nobody() -> None:
    made = [trace_context.new() for _ in range(100)]
    assert len({each.trace_id for each in made}) == 100
    assert not any(each.sampled for each in made)


@pytest.mark.parametrize(
    ("states", "state"),
    [
        (("a=1",), "a=1"),
        (("a=1,b@c=2",), "a=1,b@c=2"),
        (("a=1, b=2", "c=3"), "a=1,b=2,c=3"),
        (("a=1,,b=2,",), "a=1,b=2"),
        (("0tenant@vendor=x y",), "0tenant@vendor=x y"),
        (("a=",), ""),
        (("A=1",), ""),
        (("1a=1",), ""),
        (("a=1,a=2",), ""),
        (("a=b=c",), ""),
        (("a=1,junk",), ""),
        (("a=\xe4",), ""),
        (("a=\x01",), ""),
        ((",".join(f"k{n}=1" for n in range(32)),), ",".join(f"k{n}=1" for n in range(32))),
        ((",".join(f"k{n}=1" for n in range(33)),), ""),
        (("a=" + "x" * 256,), "a=" + "x" * 256),
        (("a=" + "x" * 257,), ""),
        ((f"a={'x' * 256},b={'x' * 256}",), ""),
    ],
)
def test_the_state_is_passed_on_whole_or_not_at_all(states: tuple[str, ...], state: str) -> None:
    parent = parse(VALID, states=states)
    assert parent is not None
    assert parent.state == state
