"""Who waits, and whose turn it is: start-time fair queueing among lanes, in seconds of the engine.

A lane is a line of requests of one kind, budget choice and priority, in order of arrival. Each has a tag, a virtual
time; the lane with the least tag is next, and its tag moves on by what its batch takes, divided by its weight. So lanes
that have work get time in proportion to their weights whatever their requests cost, and one that comes anew waits for
at most one batch of each of the others. (P. Goyal, H. Vin, H. Cheng, "Start-time Fair Queueing", 1996.)
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence

from service.scheduler.work import Priority, Request

# Shares of the engine's time among lanes that all have work.
WEIGHTS: Mapping[Priority, float] = {"high": 10.0, "normal": 1.0, "low": 0.1}


class Lane:
    """Requests in one line, the first in front; ``images`` is the number of theirs. It is never empty in a queue."""

    def __init__(self, first: Request, tag: float) -> None:
        self.engine = first.engine
        self.key = first.key
        self.kind = first.kind
        self.budgets = first.budgets
        self.name = first.lane
        self.weight = WEIGHTS[first.priority]
        self.tag = tag
        self.images = 0
        # A dictionary as an ordered set: a request that gives up leaves from the middle at no cost.
        self._requests: dict[Request, None] = {}

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests)

    def __contains__(self, request: Request) -> bool:
        return request in self._requests

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def head(self) -> Request:
        """The request in front."""
        return next(iter(self._requests))

    @property
    def bucket(self) -> int:
        """Most images of a batch that holds more than one request."""
        return self.engine.batch_sizes[-1]

    def add(self, request: Request) -> None:
        """Put a request at the end."""
        self._requests[request] = None
        self.images += len(request.images)

    def remove(self, request: Request) -> None:
        """Take a request out."""
        del self._requests[request]
        self.images -= len(request.images)


class WorkQueue:
    """Waiting requests in their lanes, and the number of their images."""

    def __init__(self) -> None:
        self.images = 0
        self._lanes: dict[Hashable, Lane] = {}
        # The virtual time, that of the lane served last, and the tags of lanes that are empty but ahead of it.
        self._now = 0.0
        self._ahead: dict[Hashable, float] = {}

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def __iter__(self) -> Iterator[Request]:
        return (request for lane in self._lanes.values() for request in lane)

    @property
    def lanes(self) -> Sequence[Lane]:
        """The lanes that have work, the one whose turn it is first."""
        return sorted(self._lanes.values(), key=lambda lane: (lane.tag, -lane.weight, lane.head.arrived))

    def lane_of(self, request: Request) -> Lane | None:
        """The lane that the request waits in, or would stand behind."""
        return self._lanes.get(request.lane)

    def add(self, request: Request) -> None:
        """Put a request at the end of its lane."""
        name = request.lane
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = Lane(request, max(self._now, self._ahead.pop(name, 0.0)))
        lane.add(request)
        self.images += len(request.images)

    def discard(self, request: Request) -> None:
        """Take a request out; nothing happens when it has left already."""
        lane = self._lanes.get(request.lane)
        if lane is None or request not in lane:
            return
        lane.remove(request)
        self.images -= len(request.images)
        if not lane:
            del self._lanes[lane.name]
            if lane.tag > self._now:
                self._ahead[lane.name] = lane.tag

    def serve(self, lane: Lane, requests: Sequence[Request], seconds: float) -> None:
        """Take out the requests of a batch that is this lane's turn, and charge their lanes for its predicted time."""
        self._now = max(self._now, lane.tag)
        each = seconds / sum(len(request.images) for request in requests)
        for request in requests:
            payer = self._lanes[request.lane]
            payer.tag += each * len(request.images) / payer.weight
            self.discard(request)
        self._ahead = {name: tag for name, tag in self._ahead.items() if tag > self._now}
