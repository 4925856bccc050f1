"""A meter on the GPU that serves: its energy over a stretch of time, and what a scrape reads of it.

The driver moves its counter in steps of up to a tenth of a second, many batches long, so what is asked for is mean
power over at least a second: the meter keeps the counter's readings of the last minute, and a request finds one from
before its batch began.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from models.nvml import Gpu, NvmlError, NvmlGpu
from service.gauges import Reading

_LEAST_WINDOW_S = 1.0
_EVERY_S = 0.25
_KEPT_S = 60.0
# For a driver that hangs, at the end.
_PATIENCE_S = 5.0
_SHARED = "several worker processes share the GPU"
_log = logging.getLogger("lmht")


@dataclass(frozen=True)
class Power:
    """Mean power in watts over the window, the seconds that were covered."""

    mean_w: float
    window_s: float


class Meter(Protocol):
    """What measures; a server without a GPU has one that says why it cannot."""

    @property
    def unavailable(self) -> str | None:
        """Why no energy can be measured; None where it can."""

    @property
    def gpu(self) -> str:
        """The device that is measured."""

    def power(self, since: float) -> Power:
        """Mean power from before a moment of `time.perf_counter` until now, over a second at least.

        Asks the driver, so not for the event loop. What lies further back than a minute is not covered. Raises
        NvmlError.
        """

    def readings(self) -> list[Reading]:
        """What there is to read, in total; empty where the driver does not answer. Not for the event loop either."""

    def close(self) -> None:
        """Measure no more."""


class NoMeter:
    """Measures nothing, for a reason."""

    gpu = ""

    def __init__(self, reason: str) -> None:
        self.unavailable = reason

    def power(self, since: float) -> Power:
        """See `Meter`."""
        raise NvmlError(self.unavailable)

    def readings(self) -> list[Reading]:
        """See `Meter`."""
        return []

    def close(self) -> None:
        """See `Meter`."""


class GpuMeter:
    """Reads a GPU from a thread of its own, which opens it first: that takes torch, and so seconds.

    Args:
        open_gpu: what is measured, closed with the meter; raises NvmlError.
        shared: whether other processes of this server run batches on it, which nobody here knows of.
    """

    def __init__(self, open_gpu: Callable[[], Gpu], shared: bool = False) -> None:
        self._open_gpu, self._shared = open_gpu, shared
        self._ended = threading.Event()
        self._kept: deque[tuple[float, float]] = deque(maxlen=round(_KEPT_S / _EVERY_S))
        self._opened: Gpu | None = None
        self._counts_energy = False
        self.gpu = ""
        self.unavailable: str | None = "the GPU has not been opened yet"
        self._thread = threading.Thread(target=self._watch, name="gpu-meter", daemon=True)
        self._thread.start()

    def power(self, since: float) -> Power:
        """See `Meter`."""
        if self.unavailable is not None:
            raise NvmlError(self.unavailable)
        oldest, _ = self._kept[0]
        if (short := oldest + _LEAST_WINDOW_S - time.perf_counter()) > 0:  # the server has just begun
            self._ended.wait(short)
        ended, last = self._read()
        latest = min(since, ended - _LEAST_WINDOW_S)
        kept = list(self._kept)  # copied in one go, whatever the other thread does
        began, first = next((reading for reading in reversed(kept) if reading[0] <= latest), kept[0])
        if last < first:
            raise NvmlError("the GPU's energy counter began anew")
        return Power((last - first) / (ended - began), ended - began)

    def readings(self) -> list[Reading]:
        """See `Meter`."""
        if self._opened is None:
            return []
        try:
            state = self._opened.state()
            found = [
                Reading("lmht_gpu_power_watts", (), state.power_w),
                Reading("lmht_gpu_memory_bytes", (), state.memory_bytes),
                Reading("lmht_gpu_memory_limit_bytes", (), state.memory_limit_bytes),
                Reading("lmht_gpu_reserved_bytes", (), state.reserved_bytes),
                Reading("lmht_gpu_utilization_ratio", (), state.utilization),
            ]
            if self._counts_energy:
                found.append(Reading("lmht_gpu_energy_joules_total", (), self._opened.energy_j()))
            return found
        except NvmlError as error:
            _log.warning("the GPU cannot be read: %s", error)
            return []

    def close(self) -> None:
        """See `Meter`."""
        self._ended.set()
        self._thread.join(_PATIENCE_S)
        if self._opened is None or self._thread.is_alive():
            return
        try:
            self._opened.close()
        except NvmlError as error:
            _log.warning("the GPU cannot be let go of: %s", error)

    def _read(self) -> tuple[float, float]:
        assert self._opened is not None
        reading = time.perf_counter(), self._opened.energy_j()
        self._kept.append(reading)
        return reading

    def _watch(self) -> None:
        try:
            self._opened = self._open_gpu()
            self.gpu = self._opened.name
            self._read()
            self._counts_energy = True
            self.unavailable = _SHARED if self._shared else None
            while not self._shared and not self._ended.wait(_EVERY_S):
                self._read()
        except NvmlError as error:
            self.unavailable = str(error)
            _log.warning("the GPU's energy cannot be measured: %s", error)


def open_meter(cuda: bool, shared: bool) -> Meter:
    """The meter of a server whose engines run on a GPU by CUDA, or not, in several processes that share it, or not."""
    return GpuMeter(NvmlGpu, shared) if cuda else NoMeter("the engines run on the CPU")
