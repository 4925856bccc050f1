"""What is scheduled: requests, and the batches that they run in."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal, get_args

from models.bundle import Engine, FloatArray, Outputs
from service import reasons

Priority = Literal["high", "normal", "low"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
Reason = reasons.BatchReason
REASONS = reasons.BATCH_REASONS


@dataclass(frozen=True)
class BatchResult:
    """One request's share of a batch.

    ``outputs`` has this request's rows only; ``timesteps`` is the budget that was run, and ``reason`` why that one.
    ``began`` is when the engine began, in the scheduler's clock; ``queue_s`` is from submission until then,
    ``compute_s`` the engine's time for the whole batch, ``shared_s`` the same divided with the batches that ran at that
    time too, ``batch_size`` that batch's images.
    """

    outputs: Outputs
    timesteps: int
    reason: Reason
    began: float
    queue_s: float
    compute_s: float
    shared_s: float
    batch_size: int


@dataclass(frozen=True, eq=False)
class Request:
    """Images that want an answer; an answer that is done is wanted no more.

    Args:
        engine: what runs them.
        key: what costs depend on besides the budget and the number of images: model and version.
        budgets: the time-step budgets that will do, ascending; the scheduler chooses among several.
        images: float32 [n, C, H, W].
        arrived: in the scheduler's clock, in seconds.
        deadline: the same, after which nobody wants the answer; infinite where there is none.
        due: the same, when the answer should be there; at the latest the deadline. Budgets are chosen to keep it.
        priority: the share of the engine's time that its lane has.
    """

    engine: Engine
    key: Hashable
    budgets: tuple[int, ...]
    images: FloatArray
    arrived: float
    deadline: float
    due: float
    priority: Priority
    answer: asyncio.Future[BatchResult]

    @property
    def kind(self) -> Hashable:
        """What the images of a batch must have in common; a replaced engine has batches of its own."""
        return id(self.engine), self.key, self.images.shape[1:]

    @property
    def lane(self) -> Hashable:
        """What requests that wait in one line have in common."""
        return self.kind, self.budgets, self.priority


@dataclass(frozen=True, eq=False)
class Batch:
    """Requests of one kind that run together at one budget; ``size`` is the number of their images.

    ``reason`` is why those of them that left the budget open got this one.
    """

    requests: tuple[Request, ...]
    size: int
    timesteps: int
    reason: Reason

    @property
    def engine(self) -> Engine:
        """The engine of all its requests."""
        return self.requests[0].engine

    @property
    def key(self) -> Hashable:
        """The model's key, that of all its requests."""
        return self.requests[0].key

    def reason_of(self, request: Request) -> Reason:
        """Why this one of its requests got the budget."""
        return self.reason if len(request.budgets) > 1 else "requested"
