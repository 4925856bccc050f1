"""The GPU that alternatives run on: their CUDA graphs, its clock, copies to it and back, its energy. On a GPU only."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from models.bench.cuda import Timed, capture
from models.bench.gpu.work import Work
from models.fused import FusedNetwork
from models.fused.captured import Captured
from models.nvml import NvmlError, NvmlGpu

# Work between two readings of the energy counter: long beside reading it, short beside its steps.
_CHUNK_S = 0.01


class _Replayed:
    """Work that is the replay of a graph."""

    def __init__(self, images: Tensor, replay: Callable[[], None], outputs: Sequence[Tensor]) -> None:
        self.images = images
        self._replay, self._outputs = replay, outputs

    def run(self) -> Sequence[Tensor]:
        self._replay()
        return self._outputs


class CudaDevice:
    """The first GPU that CUDA shows. See `Device`."""

    def __init__(self) -> None:
        self.torch = torch.device("cuda", 0)
        torch.backends.cudnn.benchmark = True  # convolutions that are not ours are as quick as cuDNN has them
        self._gpu: NvmlGpu | NvmlError
        try:
            self._gpu = NvmlGpu(0)
        except NvmlError as error:
            self._gpu = error

    def fused(self, network: FusedNetwork, images: Tensor) -> Work:
        """See `Device`."""
        captured = Captured(network, len(images), images=images)
        return _Replayed(captured.images, captured.replay, captured.outputs)

    def captured(self, network: Callable[[Tensor], Sequence[Tensor]], images: Tensor) -> Work:
        """See `Device`."""
        kept: list[Sequence[Tensor]] = []

        def run() -> None:
            kept[:] = [network(images)]

        replay = capture(run)
        return _Replayed(images, replay, kept[0])

    def compiled(self, network: Callable[[Tensor], Tensor], *, autotune: bool) -> Callable[[Tensor], Tensor]:
        """See `Device`."""
        torch.compiler.reset()  # each case is a program of its own, not one more variant of the last
        return torch.compile(network, fullgraph=True, dynamic=False, mode="max-autotune" if autotune else "default")

    def timer(self, work: Work) -> Callable[[], float]:
        """See `Device`."""
        return Timed(work.run).seconds

    def round_trip(self, work: Work) -> Callable[[], float]:
        """See `Device`."""
        sent = torch.rand(work.images.shape, pin_memory=True)
        received = [torch.empty(out.shape, dtype=out.dtype, pin_memory=True) for out in work.run()]
        stream = torch.cuda.current_stream()

        def seconds() -> float:
            began = time.perf_counter()
            work.images.copy_(sent, non_blocking=True)
            for target, out in zip(received, work.run(), strict=True):
                target.copy_(out, non_blocking=True)
            stream.synchronize()
            return time.perf_counter() - began

        return seconds

    def chunk(self, work: Work, seconds: float) -> Callable[[], int]:
        """See `Device`."""
        runs = max(1, round(_CHUNK_S / seconds))

        def run() -> int:
            for _ in range(runs):
                work.run()
            torch.cuda.current_stream().synchronize()
            return runs * len(work.images)

        return run

    def energy_j(self) -> float:
        """See `Device`."""
        if isinstance(self._gpu, NvmlError):
            raise self._gpu
        return self._gpu.energy_j()

    def release(self) -> None:
        """See `Device`."""
        gc.collect()
        torch.cuda.empty_cache()

    def forget(self) -> None:
        """See `Device`."""
        torch.compiler.reset()
