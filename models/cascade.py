"""What a cascade saves: the small budget for all images, a larger one again for those that it is not sure of.

As the service runs it for a request with `min_confidence`: confidence is the probability of the most probable class,
calibrated by the temperature of the budget, and the second pass's answer counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models import energy
from models.bundle import Budget, Bundle, Engine
from models.data import LabelledImages

# Images a call.
_CHUNK = 500
Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ran:
    """One budget over n images: which were right, how sure it was of each answer, what each cost, [n] each.

    ``cost`` by its name: nanojoules and synops of each image, and engine seconds.
    """

    right: Flags
    confidence: Floats
    cost: Mapping[str, Floats]


ENERGY, SYNOPS, COMPUTE = "energy", "synops", "compute"
COSTS = (ENERGY, SYNOPS, COMPUTE)


def run(
    bundle: Bundle,
    engine: Engine,
    budget: Budget,
    data: LabelledImages,
    profile: str,
    seconds: float,
    on_chunk: Callable[[int], None] = lambda done: None,
) -> Ran:
    """Run all images at one budget; ``seconds`` of the engine for each image are what it took elsewhere."""
    account = energy.account(bundle.manifest, budget.timesteps, profile)
    right, confidence, joules, synops = [], [], [], []
    for start in range(0, len(data), _CHUNK):
        part = slice(start, start + _CHUNK)
        outputs = engine.run(data.images[part], budget.timesteps)
        scaled = outputs.logits.astype(np.float64) / budget.temperature
        powers = np.exp(scaled - scaled.max(1, keepdims=True))
        confidence.append(1 / powers.sum(1))
        right.append(outputs.logits.argmax(1) == data.labels[part])
        estimates = account.estimate_batch(outputs.spikes, outputs.synops)
        joules.append(np.array([estimate.snn_nj for estimate in estimates], np.float64))
        synops.append(outputs.synops.sum(1))
        on_chunk(len(outputs.logits))
    cost = {ENERGY: np.concatenate(joules), SYNOPS: np.concatenate(synops), COMPUTE: np.full(len(data), seconds)}
    return Ran(np.concatenate(right), np.concatenate(confidence), cost)


@dataclass(frozen=True)
class Cascade:
    """A cascade over n images: which were right, [n], what each cost, and the share that was run again."""

    right: Flags
    cost: Mapping[str, Floats]
    again: float


def cascade(small: Ran, large: Ran, min_confidence: float | Floats) -> Cascade:
    """Run again what the small budget is less sure of than ``min_confidence``, one for all images or [n]."""
    again = small.confidence < min_confidence
    cost = {name: small.cost[name] + again * large.cost[name] for name in COSTS}
    return Cascade(np.where(again, large.right, small.right), cost, float(again.mean()))


@dataclass(frozen=True)
class Equal:
    """A cascade as accurate as a fixed budget: the thresholds of both folds, and what it did with them."""

    small: int
    large: int
    min_confidence: tuple[float, float]
    cascade: Cascade


def equal_to(right: Flags, small: int, large: int, ran: Mapping[int, Ran]) -> Equal | None:
    """The cheapest cascade of two budgets that is as often right as a fixed budget was, ``right`` [n].

    The threshold is chosen on one half of the images and applied to the other, both ways. None where no threshold
    reaches that accuracy on a half.
    """
    folds = np.arange(len(right)) % 2
    thresholds = []
    for fold in (0, 1):
        here = folds == fold
        threshold = _lowest(ran[small], ran[large], right, here)
        if threshold is None:
            return None
        thresholds.append(threshold)
    # What was found on one half is for the other.
    applied = np.where(folds == 0, thresholds[1], thresholds[0])
    return Equal(small, large, (thresholds[0], thresholds[1]), cascade(ran[small], ran[large], applied))


def _lowest(small: Ran, large: Ran, right: Flags, here: Flags) -> float | None:
    """The lowest threshold at which a cascade is as often right as ``right`` on the images ``here``."""
    order = np.argsort(small.confidence[here], kind="stable")
    sorted_confidence = small.confidence[here][order]
    gain = large.right[here][order].astype(int) - small.right[here][order]
    # Right answers when the k least certain are run again, for k = 0..n; images of one confidence go together.
    reached = small.right[here].sum() + np.concatenate([[0], np.cumsum(gain)])
    apart = np.concatenate([[True], np.diff(sorted_confidence) > 0, [True]])
    enough = np.flatnonzero(apart & (reached >= right[here].sum()))
    if not len(enough):
        return None
    count = int(enough[0])
    return float(np.nextafter(sorted_confidence[count - 1], 1.0)) if count else 0.0


def best(right: Flags, fixed: int, ran: Mapping[int, Ran], by: str = ENERGY) -> Sequence[Equal]:
    """All cascades as accurate as the fixed budget, the cheapest first; the second pass at ``fixed`` or above."""
    budgets = sorted(ran)
    found = [
        equal
        for small in budgets
        for large in budgets
        if small < fixed and large >= fixed and (equal := equal_to(right, small, large, ran)) is not None
    ]
    return sorted(found, key=lambda equal: equal.cascade.cost[by].mean())
