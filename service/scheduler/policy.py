"""Which requests make up the next batch, and what budget those get that left it open.

The budget is chosen when the engine is free, not when a request arrives: then the queue is known, and a prediction
reaches no further than one batch. A larger budget is taken where

* every request of the batch is still answered in time,
* so is everything that stays behind, were it run at its smallest budgets; in time means by its ``due``,
* and so is what will come while the batch runs: the higher the load, the smaller the share of its time that it gets.

So accuracy bends as far as the load asks, and no further. Budgets of a model come down at once and come up one at a
time, each only where there is twice the time that it needs, or nothing waits at all.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence

from service.scheduler.costs import CostModel
from service.scheduler.forecast import Forecast, Overload
from service.scheduler.load import OfferedLoad
from service.scheduler.queue import Lane, WorkQueue
from service.scheduler.work import Batch, Reason, Request

# On the way up, a budget must fit this many times over.
_ROOM = 2.0
# How much of a request's time is kept for those who come while it runs, at an offered load of 1: twice what it gets.
_KEPT = 2.0


class BudgetPolicy:
    """Makes up batches.

    Args:
        costs: predicts what they take.
        forecast: predicts what stays behind.
        load: tells how much is arriving.
        overload: ``degrade`` gives requests that left it open smaller budgets for the sake of others; ``reject`` only
            where their own deadline asks for it.
    """

    def __init__(self, costs: CostModel, forecast: Forecast, load: OfferedLoad, overload: Overload) -> None:
        self._costs = costs
        self._forecast = forecast
        self._load = load
        self._overload = overload
        # By model and choice of budgets, the largest that the load allows; missing where it allows all.
        self._caps: dict[tuple[Hashable, tuple[int, ...]], int] = {}

    def next_batch(self, lane: Lane, queue: WorkQueue, now: float) -> Batch:
        """The batch that is to run, of a lane whose turn it is; its requests still wait."""
        requests, size = self._grown([], lane, lane, self._forecast.usual(lane), now)
        if not requests:
            # All are late, as predicted. Running the first is how a wrong prediction is found out.
            requests = [next(request for request in lane if not request.answer.done())]
            size = len(requests[0].images)
        timesteps, reason = self._budget(lane, requests, size, queue, now)
        requests, size = self._filled_up(requests, size, lane, queue.lanes, timesteps, now)
        return Batch(tuple(requests), size, timesteps, reason)

    def _grown(
        self, batch: list[Request], more: Iterable[Request], lane: Lane, timesteps: int, now: float
    ) -> tuple[list[Request], int]:
        """A batch with more requests, in order: up to the first that makes it too large, or makes one of it late.

        What would be late even alone gives way to what need not be.
        """
        size = sum(len(request.images) for request in batch)
        latest = min((request.deadline for request in batch), default=math.inf)
        for request in more:
            grown = size + len(request.images)
            if request.answer.done() or now + self._takes(lane, timesteps, request) > request.deadline:
                continue
            latest = min(latest, request.deadline)
            if batch and (grown > lane.bucket or now + self._costs.at_most(lane.key, timesteps, grown) > latest):
                break
            batch.append(request)
            size = grown
        return batch, size

    def _takes(self, lane: Lane, timesteps: int, request: Request) -> float:
        """Seconds of a request alone, with a margin; 0 where nothing depends on them."""
        if request.deadline == math.inf:
            return 0.0
        return self._costs.at_most(lane.key, timesteps, len(request.images))

    def _filled_up(
        self, batch: list[Request], size: int, lane: Lane, lanes: Sequence[Lane], timesteps: int, now: float
    ) -> tuple[list[Request], int]:
        """The batch with requests of other lanes that want the same: this budget, or a choice among the same ones."""
        if size >= lane.bucket:
            return batch, size
        kin = [other for other in lanes if other is not lane and other.kind == lane.kind]
        alike = [other for other in kin if other.budgets in ((timesteps,), lane.budgets)]
        if not alike:
            return batch, size
        more = (request for other in alike for request in other)
        return self._grown(batch, more, lane, timesteps, now)

    def _budget(
        self, lane: Lane, batch: Sequence[Request], size: int, queue: WorkQueue, now: float
    ) -> tuple[int, Reason]:
        key, budgets = lane.key, lane.budgets
        smallest, largest = budgets[0], budgets[-1]
        if len(budgets) == 1:
            return smallest, "requested"
        base = self._costs.seconds(key, smallest, size)

        def in_time(by: float) -> int:
            """The largest budget with which the batch ends in time, the smallest where none does."""
            return max((t for t in budgets if now + self._costs.at_most(key, t, size) <= by), default=smallest)

        own = in_time(min(request.deadline for request in batch))
        if self._overload == "reject":
            return own, "largest" if own == largest else "deadline"
        due = min(request.due for request in batch)
        allowance = self._allowance(queue, batch, base, now)

        def extra(timesteps: int) -> float:
            return self._costs.seconds(key, timesteps, size) - base

        # Who comes while the batch runs waits for its end, and is followed by others: the more, the higher the load.
        span = min(request.due - request.arrived for request in batch)
        allowed = in_time(now + span / (1 + _KEPT * self._load.at(now, without_s=base)))
        if allowance < math.inf:
            allowed = min(allowed, in_time(due), max((t for t in budgets if extra(t) <= allowance), default=smallest))
        cap = self._caps.pop((key, budgets), largest)
        if allowed < cap:
            cap = allowed
        elif allowed > cap:
            above = budgets[budgets.index(cap) + 1]
            if allowance == math.inf:
                cap = allowed
            elif _ROOM * extra(above) <= allowance:
                cap = above
        if cap < largest:
            self._caps[key, budgets] = cap
        chosen = min(own, cap)
        if chosen == largest:
            return chosen, "largest"
        return chosen, "deadline" if own <= cap else "load"

    def _allowance(self, queue: WorkQueue, batch: Sequence[Request], base: float, now: float) -> float:
        """Seconds by which all that stays behind can be put off with none of it late; infinite where nothing can be.

        It is predicted to begin after ``base`` seconds and to run at its usual budgets.
        """
        taken = set(batch)
        left = {lane: lane.images - sum(len(r.images) for r in batch if r in lane) for lane in queue.lanes}
        allowance = math.inf
        for lane in left:
            images, others = 0, {other: count for other, count in left.items() if other is not lane}
            for request in lane:
                if request in taken or request.due == math.inf:
                    images += 0 if request in taken else len(request.images)
                    continue
                within = request.due - (now + base)
                if now + base + self._takes(lane, self._forecast.usual(lane), request) > request.deadline:
                    continue  # nothing that is done now helps this one
                images += len(request.images)
                own_s = self._forecast.lane_s(lane, images, within)
                allowance = min(allowance, within - self._forecast.until_s(own_s, lane.weight, others, within))
                if allowance <= 0:
                    return 0.0
        return allowance
