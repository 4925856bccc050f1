"""Who is taken into the queue. What cannot be served in time is refused at once, and told when to come again."""

from __future__ import annotations

import math

from service.scheduler.costs import CostModel
from service.scheduler.forecast import Forecast
from service.scheduler.queue import WEIGHTS, WorkQueue
from service.scheduler.work import Request


class Refused(Exception):
    """Not taken into the queue; trying again in ``retry_after_s`` seconds may help."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QueueFull(Refused):
    """The request's work does not fit the queue."""


class TooLate(Refused):
    """The request could not be answered before its deadline, even at the smallest of its budgets."""


class Admission:
    """Decides whether a request is taken in, by what waits and runs already.

    Args:
        costs: predicts what batches take.
        forecast: predicts what the queue takes.
        capacity_s: most seconds of work that may wait; a request that finds nothing waiting is taken whatever it takes.
        capacity_images: most images that may wait, which bounds the memory.
    """

    def __init__(self, costs: CostModel, forecast: Forecast, *, capacity_s: float, capacity_images: int) -> None:
        self._costs = costs
        self._forecast = forecast
        self._capacity_s = capacity_s
        self._capacity_images = capacity_images

    def check(self, request: Request, queue: WorkQueue, running_s: float, now: float) -> None:
        """Raise QueueFull or TooLate where the request is not to be taken.

        ``running_s`` are the seconds until what runs is done, as predicted.
        """
        images, smallest = len(request.images), request.budgets[0]
        if queue.images + images > self._capacity_images:
            raise QueueFull(
                f"{queue.images} images wait, and no more than {self._capacity_images} may",
                running_s + self._forecast.drain_s(queue),
            )
        if queue:
            waiting_s = self._forecast.drain_s(queue)
            over_s = waiting_s + self._costs.seconds(request.key, smallest, images) - self._capacity_s
            if over_s > 0:
                raise QueueFull(
                    f"what waits takes {waiting_s:.2f} s, and no more than {self._capacity_s:g} s may",
                    running_s + over_s,
                )
        if request.deadline < math.inf:
            within = request.deadline - now
            wait_s = running_s + self._ahead_s(request, queue, within)
            # Time enough for a batch as large as those ahead of it: were only its own image counted, what is in front
            # of a long queue would have time for itself alone, and batches would be smallest where most is asked.
            lane = queue.lane_of(request)
            company = images + lane.images if lane else images
            size = max(images, min(company, self._forecast.batch_size(request, smallest, within)))
            late_s = now + wait_s + self._costs.at_most(request.key, smallest, size) - request.deadline
            if late_s > 0 and wait_s > 0:
                raise TooLate(f"what is ahead of it takes {wait_s:.3f} s", late_s)

    def _ahead_s(self, request: Request, queue: WorkQueue, within: float) -> float:
        """Seconds of what runs before this request would: its own lane, and of the others their fair share."""
        lane = queue.lane_of(request)
        own_s = self._forecast.lane_s(lane, lane.images, within) if lane else 0.0
        alone_s = self._costs.seconds(request.key, request.budgets[0], len(request.images))
        others = {other: other.images for other in queue.lanes if other is not lane}
        until_s = self._forecast.until_s(own_s + alone_s, WEIGHTS[request.priority], others, within)
        return max(0.0, until_s - alone_s)
