"""Passes as CUDA graphs, with copies beside them. Runs on a GPU only.

Batches pass through slots. A slot has page-locked buffers on the host, its own stream, and its own place on the device
that images are copied to while another batch computes. Graphs are launched on one stream, one after the other, so that
they share memory: each takes a slot's images, and its answers are copied to the slot before the next one begins.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch

from models.bundle import FloatArray, Outputs
from models.fused import FusedNetwork, FusedOutputs
from models.fused.captured import Captured


class CapturedPasses:
    """A graph for every budget and size, captured when it is made.

    Args:
        networks: by time-steps, on a GPU.
        sizes: of passes, ascending.
        rest: see `service.engines.open_engine`.
        slots: batches that are under way at once; a further one waits.
    """

    def __init__(
        self,
        networks: Mapping[int, FusedNetwork],
        sizes: tuple[int, ...],
        rest: Callable[[float], None],
        slots: int = 2,
    ) -> None:
        network = next(iter(networks.values()))
        self._device = network.device
        self._compute = torch.cuda.Stream(self._device)
        self._launching = threading.Lock()
        self._images = torch.zeros((sizes[-1], *network.input_shape), device=self._device)
        self._captured: dict[tuple[int, int], Captured] = {}
        pool = torch.cuda.graph_pool_handle()
        # The largest first: what it takes holds the others too.
        for size in reversed(sizes):
            for timesteps, budget in networks.items():
                began = time.perf_counter()
                self._captured[timesteps, size] = Captured(budget, size, pool, self._images[:size])
                rest(time.perf_counter() - began)
        largest = self._captured[next(iter(networks)), sizes[-1]].outputs
        self._slots: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
        for _ in range(slots):
            self._slots.put(_Slot(self._images, largest))
        torch.cuda.synchronize(self._device)  # buffers were cleared on another stream than those that use them

    def run(self, images: FloatArray, timesteps: int, size: int) -> Outputs:
        """See `service.engines.cuda.passes.Passes`."""
        captured = self._captured[timesteps, size]
        slot = self._slots.get()
        try:
            slot.upload(images)
            with self._launching, torch.cuda.stream(self._compute):
                slot.enter(self._images, len(images))
                captured.replay()
                slot.leave(captured.outputs, len(images))
            return slot.download(len(images))
        finally:
            self._slots.put(slot)

    def close(self) -> None:
        """See `service.engines.cuda.passes.Passes`."""
        torch.cuda.synchronize(self._device)
        self._captured.clear()
        self._slots = queue.SimpleQueue()
        del self._images
        torch.cuda.empty_cache()


class _Slot:
    """Buffers of one batch on its way to the device and back, and the events that say how far it is."""

    def __init__(self, images: torch.Tensor, outputs: FusedOutputs) -> None:
        device = images.device
        self._stream = torch.cuda.Stream(device)
        self._images_here = torch.zeros(images.shape, pin_memory=True)
        self._images_there = torch.zeros_like(images)
        self._outputs_here = [torch.zeros(o.shape, dtype=o.dtype, pin_memory=True) for o in outputs]
        self._outputs_there = [torch.zeros(o.shape, dtype=o.dtype, device=device) for o in outputs]
        self._arrived, self._computed, self._returned = (torch.cuda.Event() for _ in range(3))

    def upload(self, images: FloatArray) -> None:
        """Begin to copy images to the device."""
        rows = len(images)
        np.copyto(self._images_here.numpy()[:rows], images)
        with torch.cuda.stream(self._stream):
            self._images_there[:rows].copy_(self._images_here[:rows], non_blocking=True)
            self._arrived.record()

    def enter(self, images: torch.Tensor, rows: int) -> None:
        """On the current stream, give the batch to what reads these images; what is beyond it is an earlier one's."""
        torch.cuda.current_stream().wait_event(self._arrived)
        images[:rows].copy_(self._images_there[:rows], non_blocking=True)

    def leave(self, outputs: FusedOutputs, rows: int) -> None:
        """On the current stream, take what came of the batch."""
        for there, output in zip(self._outputs_there, outputs, strict=True):
            there[:rows].copy_(output[:rows], non_blocking=True)
        self._computed.record()

    def download(self, rows: int) -> Outputs:
        """Wait until all is done; what came of the batch. Counts are float64, which holds them exactly up to 2⁵³."""
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(self._computed)
            for here, there in zip(self._outputs_here, self._outputs_there, strict=True):
                here[:rows].copy_(there[:rows], non_blocking=True)
            self._returned.record()
        self._returned.synchronize()
        logits, spikes, synops = (here[:rows].numpy() for here in self._outputs_here)
        return Outputs(logits.copy(), spikes.astype(np.float64), synops.astype(np.float64))
