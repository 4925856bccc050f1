"""A network as a CUDA graph: launched by one call, whatever it is made of. Runs on a GPU only.

After PyTorch's notes on CUDA graphs: work is warmed up on a side stream, then captured on another; a graph reads and
writes the same memory at every replay. Graphs that share a pool use the same memory for what lies between, so they are
replayed one after the other, and one's outputs are read before the next one is replayed.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from models.fused.network import FusedNetwork

# The first run compiles the kernels, and cuDNN chooses its own.
_WARM_UP = 3
# PyTorch captures one graph at a time in a process.
_capturing = threading.Lock()


class Captured:
    """A network on batches of one size.

    Args:
        network: on a GPU.
        batch: images of a replay.
        pool: of memory, by `torch.cuda.graph_pool_handle`; its own where there is none.
        images: float32 [batch, C, H, W] on the device, read at each replay; its own where there is none.

    Attributes:
        images: what a replay reads.
        outputs: what a replay writes, once the stream that it was launched on has come so far.
    """

    def __init__(
        self,
        network: FusedNetwork,
        batch: int,
        pool: torch.cuda._POOL_HANDLE | None = None,
        images: Tensor | None = None,
    ) -> None:
        shape = (batch, *network.input_shape)
        self.images = torch.zeros(shape, device=network.device) if images is None else images
        with _capturing, torch.cuda.device(network.device):
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(_WARM_UP):
                    network(self.images)
            torch.cuda.current_stream().wait_stream(side)
            self._graph = torch.cuda.CUDAGraph()
            # Other threads may launch other networks meanwhile.
            with torch.cuda.graph(self._graph, pool=pool, stream=side, capture_error_mode="thread_local"):
                self.outputs = network(self.images)

    def replay(self) -> None:
        """Launch it on the current stream."""
        self._graph.replay()
