"""How work on a GPU is timed, and what the GPU is.

Calls are captured in a CUDA graph and replayed, so that what Python takes to launch a kernel stays out of the figure;
events of the GPU's own clock stand around the replay. Calls take their inputs in turn from several sets that do not
fit into the cache together, as in a network, where a layer's input was written long before.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence

import torch

# Larger than the second-level cache of any GPU that is meant (H200: 60 MB).
CACHE_BYTES = 256_000_000
_WARMUP = 3
_LEAST_S = 2e-3


class NoGpu(Exception):
    """There is no GPU to measure on; the text says what was found."""


def describe() -> str:
    """The GPU and its driver, in words. Raises NoGpu."""
    if not torch.cuda.is_available():
        raise NoGpu("no CUDA device: lmht bench kernels measures an NVIDIA GPU, and nothing else stands in for one")
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


class Replay:
    """Calls captured once; each `seconds` replays them and gives the mean time of one."""

    def __init__(self, calls: Sequence[Callable[[], object]]) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARMUP):
                for call in calls:
                    call()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            for call in calls:
                call()
        self._calls = len(calls)
        self._replays = 1
        self._replays = max(1, round(_LEAST_S / (self.seconds() * self._calls)))

    def seconds(self) -> float:
        """Of one call."""
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(self._replays):
            self._graph.replay()
        end.record()
        end.synchronize()
        taken_ms: float = begin.elapsed_time(end)
        return taken_ms / 1000 / (self._replays * self._calls)
