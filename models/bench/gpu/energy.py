"""Joules between two steps of a counter that moves about ten times a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from models.nvml import NvmlError

# No counter stands still for so long.
_PATIENCE_S = 5.0


@dataclass(frozen=True)
class Drawn:
    """What a GPU drew for so many images, one batch after the other."""

    images: int
    seconds: float
    joules: float

    @property
    def images_per_joule(self) -> float:
        """That is images per second and watt too."""
        return self.images / self.joules

    @property
    def power_w(self) -> float:
        """Mean power."""
        return self.joules / self.seconds


def drawn(
    work: Callable[[], int],
    energy_j: Callable[[], float],
    *,
    least_s: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Drawn:
    """Work for at least so long, from one step of the counter to another: neither end lies between two of them.

    ``work`` keeps the GPU busy for some milliseconds, returns once it is done, and says how many images it ran. Raises
    NvmlError where the counter cannot be read or stands still.
    """

    def until_it_steps() -> int:
        images, before, began = 0, energy_j(), clock()
        while energy_j() == before:
            if clock() - began > _PATIENCE_S:
                raise NvmlError("the GPU's energy counter stands still while it works")
            images += work()
        return images

    until_it_steps()
    began, first, images = clock(), energy_j(), 0
    while clock() - began < least_s:
        images += work()
    images += until_it_steps()
    return Drawn(images, clock() - began, energy_j() - first)
