"""A GPU that draws what it is told to."""

from __future__ import annotations

import time
from collections.abc import Callable

from models.nvml import GpuState, NvmlError


class DrawingGpu:
    """Draws constant power from the start of its clock; ``broken`` is why it does not answer."""

    name = "a GPU, driver 1"

    def __init__(self, power_w: float = 100.0, clock: Callable[[], float] = time.perf_counter) -> None:
        self.power_w = power_w
        self.memory_bytes = 1000
        self.broken: str | None = None
        self.counter: Callable[[], float] = lambda: self.power_w * clock()
        self.closed = False

    def energy_j(self) -> float:
        self._check()
        return self.counter()

    def state(self) -> GpuState:
        self._check()
        return GpuState(self.power_w, self.memory_bytes, 4000, 0.5, 300)

    def close(self) -> None:
        self._check()
        self.closed = True

    def _check(self) -> None:
        if self.broken:
            raise NvmlError(self.broken)
