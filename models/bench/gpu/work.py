"""What an alternative is to those who measure it, and what a device is to an alternative."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from models.fused import FusedNetwork


class Work(Protocol):
    """One alternative, ready to run again and again on images that stay where they are."""

    @property
    def images(self) -> Tensor:
        """Float32 [batch, C, H, W] on the device, which every run reads."""

    def run(self) -> Sequence[Tensor]:
        """Begin a run; what it gives is there once the device has come so far, until the next one."""


class Device(Protocol):
    """What alternatives need of a device."""

    @property
    def torch(self) -> torch.device:
        """Where tensors are."""

    def fused(self, network: FusedNetwork, images: Tensor) -> Work:
        """A network of the fused kernels, as it is served: as a CUDA graph."""

    def captured(self, network: Callable[[Tensor], Sequence[Tensor]], images: Tensor) -> Work:
        """Anything as a CUDA graph."""

    def compiled(self, network: Callable[[Tensor], Tensor], *, autotune: bool) -> Callable[[Tensor], Tensor]:
        """By torch.compile, whole, for one shape."""

    def timer(self, work: Work) -> Callable[[], float]:
        """Measures: seconds of a run, queued behind others."""

    def round_trip(self, work: Work) -> Callable[[], float]:
        """Measures: seconds from images in the CPU's memory to the answer there, with nothing else to do."""

    def chunk(self, work: Work, seconds: float) -> Callable[[], int]:
        """Runs for some milliseconds, given what one run takes, and says how many images that were."""

    def energy_j(self) -> float:
        """The energy counter. Raises NvmlError."""

    def release(self) -> None:
        """Give back the memory that nothing refers to any more."""

    def forget(self) -> None:
        """Drop what torch.compile keeps."""


class Called:
    """Work that is a plain call of the images."""

    def __init__(self, call: Callable[[Tensor], Sequence[Tensor]], images: Tensor) -> None:
        self.images = images
        self._call = call

    def run(self) -> Sequence[Tensor]:
        """See `Work`."""
        return self._call(self.images)
