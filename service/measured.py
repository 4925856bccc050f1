"""What a request took of the GPU's energy, as measured: no estimate, and never added to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.meter import Power
from service.passes import Pass

METHOD = "mean power of the card over the window × the batch's time on it ÷ the batch's images, summed over passes"


@dataclass(frozen=True)
class Measured:
    """Each image's share, float64 [n] in joules, of a GPU that drew so much power."""

    gpu: str
    power: Power
    images_j: npt.NDArray[np.float64]


def share(gpu: str, power: Power, passes: Sequence[Pass]) -> Measured:
    """The shares of a request's images; the first pass has all of them.

    Time in which several batches ran is divided among them, so that the shares of all requests come to no more than
    what the GPU drew; what it drew while nothing ran is nobody's.
    """
    joules = np.zeros(len(passes[0].rows))
    for each in passes:
        joules[each.rows] += power.mean_w * each.shared_s / each.batch_size
    return Measured(gpu, power, joules)
