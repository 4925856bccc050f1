"""A network's weights on the device: there once, whatever budgets use them.

Norms differ from budget to budget and stay outside (`models.fused.folding`), so that what is stored does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.export.graph import Array
from models.export.quantisation import quantise, weight_limit

# What the weights that multiply spikes are: 8-bit integers with a scale for each output channel, or floating.
Precision = Literal["int8", "float16", "float32"]


class Stored(NamedTuple):
    """Weights on the device, and what a one of them is worth in each output channel: float64 [out]."""

    tensor: Tensor
    scale: Array


class Weights:
    """Tensors on a device, each stored once however often it is asked for. Kernels' maps are channels-last.

    Args:
        device: where they are.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stored: dict[tuple[object, ...], Stored] = {}

    @property
    def nbytes(self) -> int:
        """Bytes that the shared tensors take on the device."""
        return sum(stored.tensor.nbytes for stored in self._stored.values())

    def whole(self, weight: Array, maximum: int, dtype: torch.dtype = torch.int8) -> Stored:
        """Weights [out, …] rounded to the integers that the export takes for spike sums up to ``maximum``."""

        def make() -> tuple[npt.NDArray[np.generic], Array]:
            integers, scale = quantise(weight, maximum)
            return integers, scale.astype(np.float64)

        return self._once(weight, ("whole", weight_limit(maximum), dtype), make, dtype)

    def half(self, weight: Array) -> Stored:
        """Weights [out, …] in float16, as shares of the largest of their output channel."""

        def make() -> tuple[npt.NDArray[np.generic], Array]:
            peak = np.abs(weight).reshape(len(weight), -1).max(1)
            peak[peak == 0] = 1
            return weight / peak.reshape(-1, *[1] * (weight.ndim - 1)), peak

        return self._once(weight, ("half",), make, torch.float16)

    def floating(self, weight: Array, dtype: torch.dtype) -> Stored:
        """Weights [out, …] as they are."""
        return self._once(weight, ("floating", dtype), lambda: (weight, np.ones(len(weight))), dtype)

    def own(self, values: npt.NDArray[np.generic] | Array, dtype: torch.dtype = torch.float32) -> Tensor:
        """A tensor of one budget's own, contiguous."""
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device, dtype)

    def _once(
        self,
        weight: Array,
        form: tuple[object, ...],
        make: Callable[[], tuple[npt.NDArray[np.generic], Array]],
        dtype: torch.dtype,
    ) -> Stored:
        # By its contents: every budget is traced from a copy of the network of its own.
        key = (*form, weight.shape, hashlib.sha256(np.ascontiguousarray(weight).data).digest())
        if key not in self._stored:
            values, scale = make()
            tensor = torch.from_numpy(np.ascontiguousarray(values)).to(dtype)
            if tensor.dim() == 4:
                tensor = tensor.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
            self._stored[key] = Stored(tensor.to(self.device), scale)
        return self._stored[key]
