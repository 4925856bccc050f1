"""How the calls of a case are timed, on a GPU only.

They are captured in a CUDA graph and replayed, so that what Python takes to launch a kernel stays out of the figure.
They take their inputs in turn from several sets that do not fit into the cache together, as in a network, where a
layer's input was written long before.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

from triton.runtime.errors import OutOfResources

from models.bench.cuda import Timed, capture
from models.bench.kernels.alternatives import FUSED_FP16, FUSED_INT8, calls
from models.bench.kernels.tune import Tile, Timer
from models.kernels import configs
from models.kernels.configs import ConvolutionConfig

_ROUNDS = 5


class Replay:
    """Calls captured once; each `seconds` replays them and gives the mean time of one."""

    def __init__(self, calls: Sequence[Callable[[], object]]) -> None:
        def all_of_them() -> None:
            for call in calls:
                call()

        self._timed = Timed(capture(all_of_them))
        self._calls = len(calls)

    def seconds(self) -> float:
        """Of one call."""
        return self._timed.seconds() / self._calls


def timer(tile: Tile, seed: int) -> Timer:
    """What its layer takes with a tile: the median of a few."""
    work = calls(tile.layer, seed)[FUSED_INT8 if tile.whole else FUSED_FP16]

    def seconds(config: ConvolutionConfig) -> float:
        before = configs.CONVOLUTIONS.get(tile.key)
        configs.CONVOLUTIONS[tile.key] = config
        try:
            replay = Replay(work)
            return statistics.median(replay.seconds() for _ in range(_ROUNDS))
        except OutOfResources:
            return math.inf
        finally:
            del configs.CONVOLUTIONS[tile.key]
            if before is not None:
                configs.CONVOLUTIONS[tile.key] = before

    return seconds
