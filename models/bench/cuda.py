"""How work on a GPU is timed, and what the GPU is. Runs on a GPU only.

Events of the GPU's own clock stand around calls that are queued one behind the other, so that what lies between two of
them on the CPU counts only where the GPU waits for it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import torch

_WARMUP = 3
_LEAST_S = 2e-3


class NoGpu(Exception):
    """There is no GPU to measure on; the text says what was found."""


def describe() -> str:
    """The GPU and its driver, in words. Raises NoGpu."""
    if not torch.cuda.is_available():
        raise NoGpu("no CUDA device: this bench measures an NVIDIA GPU, and nothing else stands in for one")
    device = torch.cuda.get_device_properties(0)
    memory = device.total_memory / 2**30
    return (
        f"{device.name}, {device.multi_processor_count} multiprocessors, {memory:.0f} GiB, driver {_driver()}, "
        f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    )


def _driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def capture(call: Callable[[], object]) -> Callable[[], None]:
    """The call as a CUDA graph, to be replayed."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARMUP):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


class Timed:
    """A call, repeated until it takes long enough for the clock."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self._repeats = 1
        call()
        self._repeats = max(1, round(_LEAST_S / self.seconds()))

    def seconds(self) -> float:
        """Of one call, the mean over the repeats."""
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(self._repeats):
            self._call()
        end.record()
        end.synchronize()
        taken_ms: float = begin.elapsed_time(end)
        return taken_ms / 1000 / self._repeats
