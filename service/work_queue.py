"""The requests that wait for an engine, and which of them are next."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass

from models.bundle import Engine, FloatArray, Outputs


@dataclass(frozen=True)
class BatchResult:
    """One request's share of a batch.

    ``outputs`` has this request's rows only. ``queue_s`` is from submission until the engine began, ``compute_s`` the
    engine's time for the whole batch, ``batch_size`` that batch's images.
    """

    outputs: Outputs
    queue_s: float
    compute_s: float
    batch_size: int


@dataclass(frozen=True, eq=False)
class Request:
    """Images that want an answer. ``arrived`` is in the batcher's clock; an answer that is done is wanted no more."""

    engine: Engine
    key: Hashable
    timesteps: int
    images: FloatArray
    arrived: float
    answer: asyncio.Future[BatchResult]

    @property
    def cost_key(self) -> Hashable:
        """What the engine's time depends on besides the number of images."""
        return self.key, self.timesteps

    @property
    def lane(self) -> Hashable:
        """What requests must have in common to share a batch; a replaced engine has lanes of its own."""
        return id(self.engine), self.cost_key, self.images.shape[1:]


@dataclass(frozen=True, eq=False)
class Batch:
    """Requests of one lane that run together; ``size`` is the number of their images."""

    requests: tuple[Request, ...]
    size: int

    @property
    def engine(self) -> Engine:
        """The engine of all its requests."""
        return self.requests[0].engine

    @property
    def cost_key(self) -> Hashable:
        """That of all its requests."""
        return self.requests[0].cost_key


class WorkQueue:
    """Waiting requests in order of arrival, and the number of their images."""

    def __init__(self) -> None:
        self.images = 0
        # Dictionaries as ordered sets: a request that gives up leaves from the middle at no cost. No lane is empty,
        # and the number is that of its arrival.
        self._lanes: dict[Hashable, dict[Request, int]] = {}
        self._arrivals = 0

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def add(self, request: Request) -> None:
        """Put a request at the end."""
        self._arrivals += 1
        self._lanes.setdefault(request.lane, {})[request] = self._arrivals
        self.images += len(request.images)

    def discard(self, request: Request) -> None:
        """Take a request out; nothing happens when it has left already."""
        lane = self._lanes.get(request.lane, {})
        if request not in lane:
            return
        del lane[request]
        self.images -= len(request.images)
        if not lane:
            del self._lanes[request.lane]

    def take(self) -> Batch | None:
        """Take the next batch out: of the lane whose first request came first, up to the engine's largest bucket.

        A request larger than that is a batch of its own. None when nothing waits.
        """
        while self._lanes:
            lane = min(self._lanes.values(), key=lambda lane: next(iter(lane.values())))
            batch: list[Request] = []
            gone: list[Request] = []
            size = 0
            for request in lane:
                # A caller that was cancelled in this very turn of the event loop has yet to come and leave by itself.
                if request.answer.done():
                    gone.append(request)
                    continue
                if batch and size + len(request.images) > request.engine.batch_sizes[-1]:
                    break
                batch.append(request)
                size += len(request.images)
            for request in (*batch, *gone):
                self.discard(request)
            if batch:
                return Batch(tuple(batch), size)
        return None

    def clear(self) -> list[Request]:
        """Take everything out."""
        everything = [request for lane in self._lanes.values() for request in lane]
        for request in everything:
            self.discard(request)
        return everything

    def work(self) -> Counter[Hashable]:
        """Images that wait, by cost key."""
        work: Counter[Hashable] = Counter()
        for lane in self._lanes.values():
            for request in lane:
                work[request.cost_key] += len(request.images)
        return work
