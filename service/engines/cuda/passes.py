"""Passes over batches of a few fixed sizes, and the plain way to run them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import torch

from models.bundle import FloatArray, Outputs
from models.fused import FusedNetwork, FusedOutputs


class Passes(Protocol):
    """Runs the networks of all budgets. Safe to call from several threads."""

    def run(self, images: FloatArray, timesteps: int, size: int) -> Outputs:
        """Classify at most ``size`` images, in a pass of that size. Raises what PyTorch raises."""

    def close(self) -> None:
        """Release the networks and all memory. No run may be under way or follow."""


MakePasses = Callable[[Mapping[int, FusedNetwork], tuple[int, ...], Callable[[float], None]], Passes]


# Triton's interpreter is one for the process.
_interpreting = threading.Lock()


class DirectPasses:
    """Runs operation after operation, and of all that are open one batch at a time: for interpreted kernels.

    Args:
        networks: by time-steps.
        sizes: of passes; any is as good as another here.
        rest: see `service.engines.open_engine`; there is nothing to compile.
    """

    def __init__(
        self, networks: Mapping[int, FusedNetwork], sizes: tuple[int, ...], rest: Callable[[float], None]
    ) -> None:
        self._networks = dict(networks)

    def run(self, images: FloatArray, timesteps: int, size: int) -> Outputs:
        """See `Passes`."""
        network = self._networks[timesteps]
        with _interpreting:
            return as_arrays(network(torch.from_numpy(images.copy()).to(network.device)))

    def close(self) -> None:
        """See `Passes`."""
        self._networks.clear()


def as_arrays(outputs: FusedOutputs) -> Outputs:
    """On the host, with counts as float64, which holds them exactly up to 2⁵³."""
    counts = (column.cpu().numpy().astype(np.float64) for column in (outputs.spikes, outputs.synops))
    return Outputs(outputs.logits.cpu().numpy(), *counts)
