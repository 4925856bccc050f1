"""What stands in for a GPU: the alternatives run, and what they take is written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from models.bench.gpu.cases import Subject
from models.bench.gpu.work import Called, Work
from models.fused import FusedNetwork
from models.nvml import NvmlError
from tests.interpreter import DEVICE

TINY = Subject("tiny", "vgg", 8, {"widths": [[4], [6]], "classes": 3})


class StandIn:
    """A device whose runs take a second each, and whose counter moves 10 J with each reading."""

    def __init__(self) -> None:
        self.torch = torch.device(DEVICE)
        self.timesteps: list[int] = []
        self.autotuned: list[bool] = []
        self.released = 0
        self.joules: float | None = 0.0

    def fused(self, network: FusedNetwork, images: Tensor) -> Work:
        self.timesteps.append(network.timesteps)
        return Called(network, images)

    def captured(self, network: Callable[[Tensor], Sequence[Tensor]], images: Tensor) -> Work:
        return Called(network, images)

    def compiled(self, network: Callable[[Tensor], Tensor], *, autotune: bool) -> Callable[[Tensor], Tensor]:
        self.autotuned.append(autotune)
        return network

    def timer(self, work: Work) -> Callable[[], float]:
        work.run()
        return lambda: 1.0

    def round_trip(self, work: Work) -> Callable[[], float]:
        return lambda: 0.5

    def chunk(self, work: Work, seconds: float) -> Callable[[], int]:
        assert seconds > 0
        return lambda: len(work.images)

    def energy_j(self) -> float:
        if self.joules is None:
            raise NvmlError("there is no counter")
        self.joules += 10
        return self.joules

    def release(self) -> None:
        self.released += 1

    def forget(self) -> None:
        """Keeps nothing."""
