"""What a request's scope says of it, for the log and for traces."""

from __future__ import annotations

from starlette.types import Scope

from service.observing import Asked

# Where a scope has since when its request has been here, in seconds of `time.perf_counter`; see `service.lag.Reads`.
ARRIVED = "lmht.arrived"
# What a client makes up may be long.
_CHARACTERS = 256


def asked(scope: Scope) -> Asked:
    """The request; never its query or its other headers, which may hold what is nobody's business."""
    client = scope.get("client")
    agents = (value for name, value in scope["headers"] if name == b"user-agent")
    return Asked(
        method=scope["method"][:_CHARACTERS],
        path=scope["path"][:_CHARACTERS],
        scheme=scope["scheme"],
        client=client[0] if client else None,
        agent=next(agents, b"").decode("latin-1")[:_CHARACTERS],
    )
