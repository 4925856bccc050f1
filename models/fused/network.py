"""`FusedNetwork`: a network at one budget on a device."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from models.export.graph import IMAGES, Graph
from models.fused.operation import carry_out
from models.fused.plan import plan
from models.fused.weights import Precision, Weights


class FusedOutputs(NamedTuple):
    """What a network says of n images, on its device.

    logits: float32 [n, classes], the mean over the time-steps.
    spikes: int64 [n, layers], unit spikes over all steps.
    synops: int64 [n, layers], synaptic operations over all outgoing edges and steps.
    """

    logits: Tensor
    spikes: Tensor
    synops: Tensor


class FusedNetwork:
    """Runs a graph.

    Args:
        graph: of one budget, as `models.export.trace.trace` gives it.
        weights: those on the device; budgets that are given the same share what they have in common.
        precision: of the weights that multiply spikes. Those are whole numbers, and convolved as such. Real-valued
            inputs are float16 with ``float16`` and else float32; so are membranes and the read-out, always float32.

    Attributes:
        layers: the names of the spiking layers, in the order of the counts' columns.

    Raises ValueError for a graph that cannot be run.
    """

    def __init__(self, graph: Graph, weights: Weights, precision: Precision) -> None:
        self.device = weights.device
        self.input_shape = graph.input_shape
        self.timesteps = graph.timesteps
        self._operations = plan(graph, weights, precision)
        self.layers = tuple(layer.name for layer in graph.layers)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> FusedOutputs:
        """Classify images, float32 [n, C, H, W] on the device. Waits for nothing, and so can be captured."""
        state = carry_out(self._operations, {IMAGES: images[None]})
        return FusedOutputs(
            state.values[self._operations[-1].name][0],
            torch.stack([state.unit_spikes[name] for name in self.layers], 1),
            torch.stack([state.synops[name] for name in self.layers], 1),
        )
