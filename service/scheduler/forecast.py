"""How long what waits will take, by the costs of batches and the fairness of the queue."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Literal

from service.scheduler.costs import CostModel
from service.scheduler.queue import Lane, WorkQueue
from service.scheduler.work import Request

Overload = Literal["degrade", "reject"]
# The share of the time that is left for a request which batches ahead of it are supposed to take at most: those with
# little time left themselves are kept small.
_BATCH_SHARE = 0.3


class Forecast:
    """Predicts seconds of work that waits.

    Args:
        costs: predicts what batches take.
        overload: with ``degrade``, requests that left their budget open are counted at the smallest, since that is
            what they get where time is short; with ``reject`` at the largest.
        concurrency: batches that run at once.
    """

    def __init__(self, costs: CostModel, overload: Overload, concurrency: int) -> None:
        self._costs = costs
        self._overload = overload
        self._concurrency = concurrency

    def usual(self, lane: Lane) -> int:
        """The budget that a lane's requests are counted with while they wait."""
        return lane.budgets[0] if self._overload == "degrade" else lane.budgets[-1]

    def lane_s(self, lane: Lane, images: int, within: float = math.inf) -> float:
        """Seconds that so many images of a lane take, where they have to be done ``within`` so many."""
        timesteps = self.usual(lane)
        size = self.batch_size(lane, timesteps, within)
        return self.work_s(lane.key, timesteps, images, -(-images // size))

    def work_s(self, key: Hashable, timesteps: int, images: int, batches: int = 1) -> float:
        """Seconds that so many images take where others do too: batches run at once, and there is one event loop."""
        engine_s = self._costs.engine_s(key, timesteps, images, batches)
        return engine_s / self._concurrency + self._costs.handling_s(images)

    def batch_size(self, of: Lane | Request, timesteps: int, within: float) -> int:
        """Images of the batches that run ahead of what is to be done ``within`` so many seconds."""
        return self._costs.batch_within(of.key, timesteps, _BATCH_SHARE * within, of.engine.batch_sizes[-1])

    def until_s(self, own_s: float, weight: float, others: Mapping[Lane, int], within: float) -> float:
        """Seconds until a lane of this weight has had ``own_s``, while others get their share for so many images."""
        shared = sum(
            min(self.lane_s(other, images, within), own_s * other.weight / weight) for other, images in others.items()
        )
        return own_s + shared

    def drain_s(self, queue: WorkQueue) -> float:
        """Seconds until all that waits is done, once the engine is free."""
        return sum(self.lane_s(lane, lane.images) for lane in queue.lanes)
