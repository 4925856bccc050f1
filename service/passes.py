"""How a request's images are run: once, or the uncertain ones again at a larger budget.

A cascade answers the most with the smallest budget: what is recognised there with enough confidence is done, and only
the rest is run again. Confidence is the probability of the most probable class, calibrated for each budget by the
temperature in the manifest. The second pass is an offer, not a promise: where it does not fit the queue or the
deadline, the first pass's answer stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from models import energy
from models.bundle import Budget, FloatArray, Outputs
from models.energy import Energy
from service.loading import ServedModel
from service.reasons import Reason
from service.scheduler import BatchResult, DeadlinePassed, Priority, Refused, Scheduler, Stalled

# What is left of the deadline to answer from the first pass when the second is given up.
_ANSWER_S = 0.002


@dataclass(frozen=True)
class Wanted:
    """What a request's options come to.

    Args:
        budgets: ascending, the only one that will do or those to choose from.
        min_confidence: what is less certain than that at the smallest budget is run again; None for one pass.
        deadline: in the scheduler's clock; infinite where there is none.
        priority: of its work.
        profile: the energy profile.
    """

    budgets: tuple[Budget, ...]
    min_confidence: float | None
    deadline: float
    priority: Priority
    profile: str


@dataclass(frozen=True)
class Pass:
    """One run over m of a request's images.

    rows: intp [m], which of them, ascending.
    outputs: their rows only.
    probabilities: float64 [m, classes], softmax(logits / temperature of the budget).
    energies: an estimate for each.
    began, queue_s, compute_s, shared_s, batch_size: see `service.scheduler.BatchResult`.
    """

    rows: npt.NDArray[np.intp]
    budget: Budget
    reason: Reason
    outputs: Outputs
    probabilities: npt.NDArray[np.float64]
    energies: Sequence[Energy]
    began: float
    queue_s: float
    compute_s: float
    shared_s: float
    batch_size: int


def check(engines: Scheduler, served: ServedModel, wanted: Wanted, images: int) -> None:
    """Raise what `Scheduler.submit` would of the first pass over so many images, where they are refused."""
    cascade = wanted.min_confidence is not None
    engines.check(
        served.engine,
        served.key,
        [budget.timesteps for budget in (wanted.budgets[:1] if cascade else wanted.budgets)],
        (images, *served.manifest.input.shape),
        deadline=wanted.deadline,
        priority=wanted.priority,
    )


async def run(engines: Scheduler, served: ServedModel, wanted: Wanted, images: FloatArray) -> list[Pass]:
    """Run a request's images, float32 [n, C, H, W]; the first pass has all of them.

    Raises what `Scheduler.submit` raises of the first pass, and EngineError of the second.
    """
    everything = np.arange(len(images))
    if wanted.min_confidence is None or len(wanted.budgets) == 1:
        return [await _pass(engines, served, wanted, wanted.budgets, images, everything, wanted.deadline)]
    smallest, larger = wanted.budgets[:1], wanted.budgets[1:]
    first = await _pass(engines, served, wanted, smallest, images, everything, wanted.deadline, "cascade")
    uncertain = np.flatnonzero(first.probabilities.max(axis=1) < wanted.min_confidence)
    if not len(uncertain):
        return [first]
    try:
        deadline = wanted.deadline - _ANSWER_S
        again = await _pass(engines, served, wanted, larger, images, uncertain, deadline, "uncertain")
    except (DeadlinePassed, Refused, Stalled):
        return [first]
    return [first, again]


async def _pass(
    engines: Scheduler,
    served: ServedModel,
    wanted: Wanted,
    budgets: Sequence[Budget],
    images: FloatArray,
    rows: npt.NDArray[np.intp],
    deadline: float,
    reason: Literal["cascade", "uncertain"] | None = None,
) -> Pass:
    """One pass over some rows of the images. Its reason is the given one, unless something kept it from the largest."""
    result: BatchResult = await engines.submit(
        served.engine,
        served.key,
        [budget.timesteps for budget in budgets],
        images if len(rows) == len(images) else images[rows],
        deadline=deadline,
        priority=wanted.priority,
    )
    budget = next(b for b in budgets if b.timesteps == result.timesteps)
    account = energy.account(served.manifest, budget.timesteps, wanted.profile)
    return Pass(
        rows=rows,
        budget=budget,
        reason=reason if reason and budget is budgets[-1] else result.reason,
        outputs=result.outputs,
        probabilities=_softmax(result.outputs.logits, budget.temperature),
        energies=account.estimate_batch(result.outputs.spikes, result.outputs.synops),
        began=result.began,
        queue_s=result.queue_s,
        compute_s=result.compute_s,
        shared_s=result.shared_s,
        batch_size=result.batch_size,
    )


def _softmax(logits: FloatArray, temperature: float) -> npt.NDArray[np.float64]:
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities: npt.NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities
