"""What became of a request, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from service.handler import Classification
from service.observing.trace_context import TraceContext


@dataclass(frozen=True)
class Asked:
    """What a request says of itself.

    ``client`` is the address that it came from, a proxy's where there is one; ``agent`` the client's name for itself.
    """

    method: str
    path: str
    scheme: str
    client: str | None
    agent: str


@dataclass(frozen=True)
class Outcome:
    """One request that is over.

    Args:
        id: the request's.
        trace: this server's span of it, None where it is part of no trace.
        asked: what it said.
        status: as answered, 499 where the client went away before.
        reason: why it was not answered as asked, empty where it was.
        arrived, ended: by `time.perf_counter`.
        model: as the address has it, empty where the request was no classification; the same for ``version``.
        caller: whose API key it had.
        images: how many it had, None where that was not found out.
        answer: of a classification that was answered.
        error: what nobody foresaw.
    """

    id: str
    trace: TraceContext | None
    asked: Asked
    status: int
    reason: str
    arrived: float
    ended: float
    model: str = ""
    version: str | None = None
    caller: str | None = None
    images: int | None = None
    answer: Classification | None = None
    error: Exception | None = None

    @property
    def total_s(self) -> float:
        """Seconds from its arrival to its end."""
        return self.ended - self.arrived
