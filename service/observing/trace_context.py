"""Which trace a request belongs to: the headers `traceparent` and `tracestate` of W3C Trace Context.

https://www.w3.org/TR/trace-context-2/ says what is valid. What is not starts a new trace, as it asks for.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

Headers = Iterable[tuple[bytes, bytes]]
SAMPLED, RANDOM = 1, 2
_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_VERSION, _NO_VERSION = b"00", b"ff"
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
_KEY = r"(?:[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13}|[a-z][a-z0-9_\-*/]{0,255})"
_MEMBER = re.compile(rf"({_KEY})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{{0,255}}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
# So much is to be passed on at least; of more nothing is, since what to leave out is for its owners to know.
_STATE_MEMBERS, _STATE_BYTES = 32, 512


@dataclass(frozen=True)
class TraceContext:
    """A span's place: the trace in 32 hexadecimal digits, the span in 16, flags, and what vendors keep beside them."""

    trace_id: str
    span_id: str
    flags: int
    state: str = ""

    @property
    def sampled(self) -> bool:
        """Whether whoever called may have recorded the trace."""
        return bool(self.flags & SAMPLED)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """`traceparent`, and `tracestate` where there is any."""
        parent = f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"
        found = [(b"traceparent", parent.encode("ascii"))]
        return [*found, (b"tracestate", self.state.encode("ascii"))] if self.state else found

    def child(self) -> TraceContext:
        """A new span of the same trace."""
        return replace(self, span_id=secrets.token_hex(8))


def new() -> TraceContext:
    """A trace that begins here, and that nobody records."""
    return TraceContext(secrets.token_hex(16), secrets.token_hex(8), RANDOM)


def received(headers: Headers) -> tuple[TraceContext | None, bool]:
    """The span that a request comes from, None without a valid one; and whether a `traceparent` was there at all."""
    parents = [value for name, value in headers if name == b"traceparent"]
    if not parents:
        return None, False
    parent = _parent(parents)
    if parent is None:
        return None, True
    states = [value for name, value in headers if name == b"tracestate"]
    return (replace(parent, state=_state(states)) if states else parent), True


def _parent(values: Sequence[bytes]) -> TraceContext | None:
    """By the one `traceparent`; of a later version, what version 00 knows of it."""
    match = _PARENT.fullmatch(values[0].strip(b" \t")) if len(values) == 1 else None
    if match is None or match[1] == _NO_VERSION or (match[1] == _VERSION and match[5] is not None):
        return None
    trace_id, span_id = match[2].decode("ascii"), match[3].decode("ascii")
    if trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return TraceContext(trace_id, span_id, int(match[4], 16) & (SAMPLED | RANDOM))


def _state(values: Sequence[bytes]) -> str:
    """All `tracestate` headers as one; empty where a part of it is not valid, or it is too long."""
    text = b",".join(values).decode("latin-1")
    members = [member for part in text.split(",") if (member := part.strip(" \t"))]
    matches = [_MEMBER.fullmatch(member) for member in members]
    keys = {match[1] for match in matches if match}
    state = ",".join(members)
    if len(keys) != len(members) or len(members) > _STATE_MEMBERS or len(state) > _STATE_BYTES:
        return ""
    return state
