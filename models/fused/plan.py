"""A graph's nodes made operations.

A layer of neurons takes in what makes its current, where nobody else reads that: a convolution or matrix, or the sum of
one and a shortcut. Spikes are whole numbers there, so the kernels do it all in one pass; a residual is read as it
lies. What the kernels do not take is done by PyTorch, and the neurons alone by a kernel.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from models.export import counting
from models.export.graph import (
    Add,
    Affine,
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
    Signal,
    TimeMean,
    Weighted,
)
from models.export.quantisation import UINT8_MAX
from models.fused import currents, passing
from models.fused.folding import fold
from models.fused.layers import Added, ConvolveAndFire, Fire, Firing
from models.fused.merging import Merging
from models.fused.operation import Operation, width
from models.fused.weights import Precision, Stored, Weights


def plan(graph: Graph, weights: Weights, precision: Precision) -> tuple[Operation, ...]:
    """The operations that carry out a graph, in order; the last makes the logits.

    Raises ValueError for a graph with a part that cannot be run or counted.
    """
    return tuple(_Planner(graph, weights, precision).operations())


class _Planner:
    """Goes through a graph; `plan` is how to use it."""

    def __init__(self, graph: Graph, weights: Weights, precision: Precision) -> None:
        self.graph, self.outward = fold(graph)
        self.weights = weights
        self.precision = precision
        self.merging = Merging(self.graph, precision)
        self.real = torch.float16 if precision == "float16" else torch.float32
        self.signals = self.graph.signals()
        self.nodes = {node.name: node for node in self.graph.nodes}

    def operations(self) -> Iterator[Operation]:
        """Every node's, but of those that another one takes in."""
        taken = {name for node in self.graph.nodes for name in self.merging.takes_in(node)}
        for node in self.graph.nodes:
            if node.name not in taken:
                yield from self._node(node)

    # Weights

    def _stored(self, node: Weighted) -> Stored:
        """The node's weights as its kernel takes them, or PyTorch."""
        spikes = self.signals[node.inputs[0]].spikes
        rounded = self.precision == "int8" and spikes is not None and spikes.maximum <= UINT8_MAX
        if self.merging.has_kernel(node):
            assert spikes is not None
            return self.weights.whole(node.weight, spikes.maximum) if rounded else self.weights.half(node.weight)
        if rounded:
            assert spikes is not None
            return self.weights.whole(node.weight, spikes.maximum, torch.float32)
        # Sums of products of spikes may be beyond float16.
        return self.weights.floating(node.weight, self.real if spikes is None else torch.float32)

    def _outward(self, node: Weighted, stored: Stored) -> tuple[Array, Array]:
        """What a one of the products is worth, and the shift; float64 [out]."""
        outward = self.outward[node.name]
        return stored.scale * self._unit(node.inputs[0]) * outward.scale, outward.shift

    def _unit(self, name: str) -> float:
        spikes = self.signals[name].spikes
        return 1.0 if spikes is None else spikes.unit

    def _channels(self, name: str, value: float) -> Tensor:
        """The same number for every channel of a signal, [C]."""
        return self.weights.own(np.full(self.signals[name].shape[0], value))

    def _unless(self, values: Array, nothing: float) -> Tensor | None:
        return self.weights.own(values) if (values != nothing).any() else None

    def _across(self, values: Array, signal: Signal) -> Tensor:
        """[C] or [C, 1, 1], to go with a signal's tensor."""
        return self.weights.own(values.reshape(-1, *[1] * (len(signal.shape) - 1)))

    # Nodes

    def _node(self, node: Node) -> Iterator[Operation]:
        source = self.signals[node.inputs[0]]
        match node:
            case Neurons():
                yield from self._neurons(node)
            case Linear(head=True):
                yield self._read_out(node)
            case Conv() | Linear():
                yield from self._materialised(node.name, node)
            case Add():
                yield from self._add(node)
            case Normalise():
                mean, std = (self._unless(v, n) for v, n in ((node.mean, 0), (node.std, 1)))
                mean, std = (None if v is None else v.reshape(-1, 1, 1) for v in (mean, std))
                yield currents.Normalise(node.name, node.inputs, mean, std)
            case Affine():
                scale = self._across(node.scale * self._unit(node.inputs[0]), source)
                shift = self._across(node.shift, source) if node.shift.any() else None
                yield currents.Affine(node.name, node.inputs, scale, shift, self.real)
            case AvgPool(window=window):
                spikes = self.signals[node.name].spikes
                if spikes is None:
                    yield currents.Pool(node.name, node.inputs, window, largest=False)
                else:
                    yield passing.SumPool(node.name, node.inputs, window, width(spikes.maximum))
            case MaxPool(window=window):
                if source.spikes is None:
                    yield currents.Pool(node.name, node.inputs, window, largest=True)
                else:
                    yield from self._spike_max_pool(node, source.spikes.source)
            case TimeMean():
                spikes = self.signals[node.name].spikes
                if spikes is None:
                    yield currents.TimeMean(node.name, node.inputs)
                else:
                    yield passing.TimeSum(node.name, node.inputs, width(spikes.maximum))
            case Flatten():
                yield passing.Flatten(node.name, node.inputs)
            case _:
                raise ValueError(f"{node.name}: {type(node).__name__} cannot be run")

    def _read_out(self, node: Linear) -> Operation:
        source = node.inputs[0]
        steps = self.graph.timesteps if self.signals[source].timed else 1
        weight = self.weights.own(node.weight * self._unit(source) / steps)
        return currents.ReadOut(node.name, node.inputs, weight, self.weights.own(node.bias))

    def _spike_max_pool(self, node: MaxPool, layer: str) -> Iterator[Operation]:
        yield passing.SpikeMaxPool(node.name, node.inputs, node.window)
        fan_out = self._fan_out(layer, node.name)
        if fan_out.any():
            reached = self.weights.own(fan_out, torch.int64)
            yield passing.CountPooled(f"{node.name}/synops", (node.name,), layer, reached)

    def _add(self, node: Add) -> Iterator[Operation]:
        current = self.merging.summed(node)
        if current.main is not None:
            yield from self._materialised(node.name, current.main, current.residual)
        else:
            first, second = node.inputs
            yield currents.Sum(node.name, node.inputs, (self._unit(first), self._unit(second)), self.real)

    def _materialised(self, name: str, node: Weighted, residual: str | None = None) -> Iterator[Operation]:
        """A weighted node's currents, as somebody reads them who takes nothing in; where a kernel adds, with more."""
        stored = self._stored(node)
        scale, shift = self._outward(node, stored)
        if self.merging.has_kernel(node):
            steps, added = self._added(name, shift, residual)
            yield from steps
            by = self.weights.own(scale)
            stride, padding = _walk(node)
            reads = (*node.inputs, *added.reads)
            yield currents.Convolve(name, reads, stored.tensor, by, stride, padding, added, self.real)
            return
        products = f"{name}/products"
        yield self._products(products, node, stored)
        signal = self.signals[name]
        moved = self._across(shift, signal) if shift.any() else None
        yield currents.Affine(name, (products,), self._across(scale, signal), moved, self.real)

    def _products(self, name: str, node: Weighted, stored: Stored) -> Operation:
        window, groups = (node.window, node.groups) if isinstance(node, Conv) else (None, 1)
        return currents.Weigh(name, node.inputs, stored.tensor, window, groups)

    def _added(self, total: str, shift: Array, residual: str | None) -> tuple[list[Operation], Added]:
        """What is added to a current, and the operations that bring it into the current's shape."""
        steps: list[Operation] = []
        scale = None
        if residual is not None:
            unit = self._unit(residual)
            scale = None if unit == 1 else self._channels(residual, unit)
            if self.signals[total].timed and not self.signals[residual].timed:
                steps.append(passing.Steps(f"{total}/residual", (residual,), self.graph.timesteps))
                residual = steps[0].name
        return steps, Added(self._unless(shift, 0), residual, scale)

    def _neurons(self, node: Neurons) -> Iterator[Operation]:
        current, firing = self.merging.current(node.inputs[0]), self._firing(node)
        if current.main is None:
            unit = self._unit(current.signal)
            scale = None if unit == 1 else self._channels(current.signal, unit)
            yield Fire(node.name, (current.signal,), scale, Added(), firing)
            return
        main, stored = current.main, self._stored(current.main)
        worth, shift = self._outward(main, stored)
        steps, added = self._added(current.signal, shift, current.residual)
        yield from steps
        if self.merging.has_kernel(main) and firing.has_kernel:
            reads = (*main.inputs, *added.reads)
            stride, padding = _walk(main)
            by = self.weights.own(worth)
            yield ConvolveAndFire(node.name, reads, stored.tensor, by, stride, padding, added, firing)
        elif self.merging.has_kernel(main):
            yield from self._materialised(main.name, main)
            rest = Added(None, added.residual, added.residual_scale)
            yield Fire(node.name, (main.name, *added.reads), None, rest, firing)
        else:
            yield self._products(main.name, main, stored)
            by = self.weights.own(worth)
            yield Fire(node.name, (main.name, *added.reads), by, added, firing)

    def _firing(self, node: Neurons) -> Firing:
        return Firing(
            timesteps=self.graph.timesteps,
            levels=node.levels,
            threshold=node.threshold,
            leak=1.0 if node.leak is None else node.leak,
            initial_membrane=node.initial / node.threshold,
            mixing=self._mixing(node),
            summed=node.factored,
            substeps=node.substeps,
            fan_out=self.weights.own(self._fan_out(node.name, node.name), torch.int64),
        )

    def _mixing(self, node: Neurons) -> Tensor | None:
        """ω [T, T] for a current with a time axis, gains [T] for one without; none where each step gets its own."""
        mixing, timed = node.mixing, self.signals[node.inputs[0]].timed
        if mixing is None:
            return None if timed else self.weights.own(np.ones(self.graph.timesteps))
        if mixing.ndim == 1:
            return self.weights.own(np.diag(mixing) if timed else mixing)
        return self.weights.own(mixing if timed else mixing.sum(1))

    def _fan_out(self, layer: str, source: str) -> Array:
        """The synapses that a unit spike reaches from each position of ``source``, the layer or a pool behind it.

        Whole numbers [H, W]; [1, 1] for vectors.
        """
        neurons = self.nodes[layer]
        assert isinstance(neurons, Neurons)
        shape = self.signals[source].shape
        reached = np.zeros(shape[1:] if len(shape) == 3 else (1, 1))
        for edge in counting.edges(self.graph, neurons):
            if edge.source == source:
                reached += edge.fan * np.outer(edge.rows, edge.columns)
        return reached


def _walk(node: Weighted) -> tuple[int, int]:
    """Stride and padding of what a kernel takes."""
    return (node.window.stride[0], node.window.padding[0]) if isinstance(node, Conv) else (1, 0)
