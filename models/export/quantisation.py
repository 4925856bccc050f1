"""Rounding of weights to 8 bits, per output channel. Spikes are not rounded: they are integers already."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.export.graph import Array

UINT8_MAX = 255
_INT16_MAX = 32767
_TINY = float(np.finfo(np.float32).tiny)


def weight_limit(maximum: int) -> int:
    """The largest magnitude of an 8-bit weight that multiplies spike sums up to ``maximum``.

    CPUs without VNNI add pairs of 8-bit products in 16 bits, saturating; a pair must fit: 2·maximum·limit ≤ 32767.
    That leaves the full 127 up to sums of 129, and at least 64 for every sum that fits 8 bits.
    """
    return min(127, _INT16_MAX // (2 * maximum))


def quantise(weight: Array, maximum: int) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Weights [out, …] → int8 of the same shape and scale float32 [out], with weight ≈ scale·int8."""
    limit = weight_limit(maximum)
    peak = np.abs(weight).reshape(len(weight), -1).max(1)
    # A dead channel, which decay has shrunk below what a float32 scale can say, becomes zeros.
    scale = np.where(peak / limit >= _TINY, peak / limit, 1.0).astype(np.float32)
    columns = scale.astype(np.float64).reshape(-1, *[1] * (weight.ndim - 1))
    return np.clip(np.rint(weight / columns), -limit, limit).astype(np.int8), scale
