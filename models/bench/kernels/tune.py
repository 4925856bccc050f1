"""The tile that a layer runs fastest with, of all that may be worth trying: for `models.kernels.configs`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import triton
from triton.runtime.errors import OutOfResources

from models.bench.kernels.alternatives import FUSED_FP16, FUSED_INT8, calls
from models.bench.kernels.cases import Case, LayerCase
from models.bench.kernels.gpu import Replay
from models.kernels import configs
from models.kernels.configs import ConvolutionConfig

_ROWS, _COLUMNS, _DEPTHS, _WARPS, _STAGES = (32, 64, 128), (32, 64, 128), (32, 64, 128), (4, 8), (2, 3, 4)
# Sums of all steps, in registers of a thread: fewer leave the tensor cores idle, more do not fit.
_FEWEST, _MOST = 8, 128
_WARP = 32
_ROUNDS = 5


def candidates(steps: int, channels: int, depth: int) -> Iterator[ConvolutionConfig]:
    """Tiles that are neither far too small nor sure to spill."""
    for rows, columns, deep, warps, stages in itertools.product(_ROWS, _COLUMNS, _DEPTHS, _WARPS, _STAGES):
        registers = steps * rows * columns // (warps * _WARP)
        fits = columns <= max(32, triton.next_power_of_2(channels)) and deep <= max(32, triton.next_power_of_2(depth))
        if fits and _FEWEST <= registers <= _MOST:
            yield ConvolutionConfig(rows, columns, deep, warps, stages)


def best_configs(cases: Iterable[Case], *, seed: int) -> Iterator[str]:
    """For each layer and precision a row of the table, with its time and that of the rule's tile in microseconds."""
    for case in cases:
        if not isinstance(case, LayerCase):
            continue
        layer = case.layer
        work = calls(case, seed)
        for name, whole in ((FUSED_INT8, True), (FUSED_FP16, False)):
            key = (case.steps, case.batch * layer.out_size**2, layer.out, layer.channels, whole)
            tuned = configs.CONVOLUTIONS.pop(key, None)
            rule = _median(Replay(work[name]))
            times: dict[ConvolutionConfig, float] = {}
            for config in candidates(case.steps, layer.out, layer.channels):
                configs.CONVOLUTIONS[key] = config
                try:
                    times[config] = _median(Replay(work[name]))
                except OutOfResources:
                    continue
                finally:
                    del configs.CONVOLUTIONS[key]
            if tuned is not None:
                configs.CONVOLUTIONS[key] = tuned
            best = min(times, key=times.__getitem__)
            yield f"    {key}: {best},  # {case.name}: {1e6 * times[best]:.1f} µs, by rule {1e6 * rule:.1f} µs"


def _median(replay: Replay) -> float:
    times: Sequence[float] = sorted(replay.seconds() for _ in range(_ROUNDS))
    return times[_ROUNDS // 2]
