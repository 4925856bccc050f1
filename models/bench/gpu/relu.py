"""The limit that an LM-HT network is measured against on a GPU: its architecture as an ordinary network with ReLUs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.export.graph import (
    IMAGES,
    Add,
    Array,
    AvgPool,
    Conv,
    Flatten,
    Graph,
    Linear,
    MaxPool,
    Neurons,
    Node,
    Normalise,
    TimeMean,
    fold_norms,
)

# From the values of a node's inputs to its own.
_Step = Callable[..., Tensor]


class ReluNetwork(nn.Module):
    """A graph of T = 1 with ReLUs for neurons, norms folded into the weights, channels-last.

    Args:
        graph: as traced.
        dtype: of weights and activations.
        device: where it runs.

    Raises ValueError for a graph of another T, or with a layer that an ordinary network has not: a norm that stands
    alone.
    """

    def __init__(self, graph: Graph, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        if graph.timesteps != 1:
            raise ValueError(f"a ReLU network has one time-step, not {graph.timesteps}")
        self._dtype, self._device = dtype, device
        graph = fold_norms(graph)
        self._output = graph.nodes[-1].name
        self._steps = [(node.name, node.inputs, self._step(node)) for node in graph.nodes]

    def forward(self, images: Tensor) -> Tensor:
        """Float [n, C, H, W] → [n, classes]."""
        first = images.to(self._dtype).contiguous(memory_format=torch.channels_last)
        values: dict[str, Tensor] = {IMAGES: first}
        for name, inputs, step in self._steps:
            values[name] = step(*(values[each] for each in inputs))
        return values[self._output]

    def _step(self, node: Node) -> _Step:
        match node:
            case Normalise(mean=mean, std=std):
                shift, scale = self._channels(mean), self._channels(std)
                return lambda x: (x - shift) / scale
            case Conv(weight=weight, bias=bias, window=window, groups=groups):
                kernel = self._tensor(weight).contiguous(memory_format=torch.channels_last)
                own, w = self._tensor(bias), window
                return lambda x: functional.conv2d(x, kernel, own, w.stride, w.padding, w.dilation, groups)
            case Linear(weight=weight, bias=bias):
                matrix, own = self._tensor(weight), self._tensor(bias)
                return lambda x: functional.linear(x, matrix, own)
            case Neurons():
                return functional.relu
            case Add():
                return lambda x, y: x + y
            case AvgPool(window=window):
                return lambda x: functional.avg_pool2d(x, window.kernel, window.stride, window.padding)
            case MaxPool(window=window):
                return nn.MaxPool2d(window.kernel, window.stride, window.padding, window.dilation)
            case Flatten():
                return lambda x: x.flatten(1)
            case TimeMean():
                return lambda x: x
            case _:
                raise ValueError(f"{node.name}: there is no {type(node).__name__} among the layers of a ReLU network")

    def _tensor(self, values: Array) -> Tensor:
        return torch.from_numpy(values).to(self._device, self._dtype)

    def _channels(self, values: Array) -> Tensor:
        return self._tensor(values)[:, None, None]
