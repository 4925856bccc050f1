"""A `Graph` as ONNX, unrolled over its time-steps.

Spikes stay exact: they are integers 0..L (or sums of them up to 255), so QuantizeLinear and DequantizeLinear around
them lose nothing. A provider that fuses the pair holds them in 8 bits from the neuron on, for all that read them: it
convolves, adds and counts bytes. Membranes and currents are float32, in units of the threshold. T-GIM is
multiplications and additions over the split steps, which providers fuse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

import numpy as np

from models.export import counters, thresholds
from models.export.graph import (
    IMAGES,
    Add,
    Affine,
    AvgPool,
    Conv,
    Flatten,
    Graph,
    Linear,
    MaxPool,
    Neurons,
    Node,
    Normalise,
    Spikes,
    TimeMean,
    Weighted,
    Window,
    fold_norms,
    scaled,
)
from models.export.quantisation import UINT8_MAX, quantise
from models.export.writer import DOUBLE, FLOAT, Writer

Precision = Literal["int8", "float32"]


def lower(graph: Graph, precision: Precision, *, counts: bool = True) -> bytes:
    """The ONNX file of a graph: input ``images``, outputs ``logits``, ``spikes`` and ``synops``.

    Without ``counts`` it has the logits alone, to measure what counting costs. Raises ValueError when the graph has a
    part that cannot be written, or counts that float32 could not hold.
    """
    graph = fold_norms(graph)
    writer = Writer()
    lowering = Lowering(graph, precision, writer)
    writer.op("Identity", [lowering.run()], "logits")
    outputs = [("logits", FLOAT, graph.signals()[graph.nodes[-1].name].shape)]
    if counts:
        counters.write(writer, graph, lowering.counted)
        outputs += [(name, DOUBLE, (len(graph.layers),)) for name in ("spikes", "synops")]
    return writer.file([(IMAGES, FLOAT, graph.input_shape)], outputs)


@dataclass
class Value:
    """A signal as tensors: one without time, or all time-steps in one (time first), or one tensor for each.

    Spikes are held as whole numbers, sums where a pool took averages. ``packed`` says that they have been through 8
    bits; ``unpacked`` is then what went in, for each step or once.
    """

    once: str | None = None
    stacked: str | None = None
    steps: list[str] | None = None
    packed: bool = False
    unpacked: list[str] | None = None


class Lowering:
    """Writes the nodes of a graph one after the other; `lower` is how to use it."""

    def __init__(self, graph: Graph, precision: Precision, writer: Writer) -> None:
        self.graph = graph
        self.precision = precision
        self.writer = writer
        self.signals = graph.signals()
        self.values = {IMAGES: Value(once=IMAGES)}
        self.totals: dict[str, str] = {}
        self.gains = thresholds.gains(graph)

    def run(self) -> str:
        """Write every node; returns the tensor of the logits."""
        for node in self.graph.nodes:
            self.values[node.name] = self._lower(node)
        return self.total(self.graph.nodes[-1].name)

    # A signal in the form that is needed

    def total(self, name: str) -> str:
        """The signal summed over time; itself where it has no time axis."""
        if (once := self.values[name].once) is not None:
            return once
        if name not in self.totals:
            self.totals[name] = self.writer.sum(self._steps(name), f"{name}/total")
        return self.totals[name]

    def _unpacked_total(self, name: str) -> str:
        """The same of what has not been through 8 bits."""
        unpacked = self.values[name].unpacked
        return self.total(name) if unpacked is None else self.writer.sum(unpacked, f"{name}/unpacked")

    def counted(self, name: str) -> counters.Counted:
        """The unit spikes of a layer, or of a max pool, in one tensor, summed over time unless they are stacked."""
        value = self.values[name]
        if value.stacked is not None:
            return counters.Counted(value.stacked, self.graph.timesteps, value.packed)
        return counters.Counted(self.total(name), 1, value.packed)

    def _steps(self, name: str) -> list[str]:
        value = self.values[name]
        if value.once is not None:
            return [value.once] * self.graph.timesteps
        if value.steps is None:
            assert value.stacked is not None
            value.steps = self.writer.split(value.stacked, self.graph.timesteps, f"{name}/step")
        return value.steps

    def _stacked(self, name: str) -> str:
        value = self.values[name]
        if value.once is not None:
            return value.once
        if value.stacked is None:
            assert value.steps is not None
            value.stacked = self._concat(value.steps, f"{name}/stacked")
        return value.stacked

    def _concat(self, tensors: list[str], output: str) -> str:
        return tensors[0] if len(tensors) == 1 else self.writer.op("Concat", tensors, output, axis=0)

    def _each(self, source: str, output: str, apply: Callable[[str, str], str]) -> Value:
        """Apply (tensor, output) → output to a signal, at each step when it has a time axis."""
        if (once := self.values[source].once) is not None:
            return Value(once=apply(once, output))
        return Value(steps=[apply(tensor, f"{output}/{t}") for t, tensor in enumerate(self._steps(source), 1)])

    # Nodes

    def _lower(self, node: Node) -> Value:
        match node:
            case Normalise():
                return self._normalise(node)
            case Linear(head=True):
                return self._head(node)
            case Conv() | Linear():
                return self._weighted(node)
            case Affine():
                return self._affine(node)
            case Add():
                return self._add(node)
            case AvgPool() | Flatten():
                return self._reshaped(node)
            case MaxPool():
                return self._largest(node)
            case TimeMean():
                return self._mean(node)
            case Neurons():
                return self.neurons(node)
            case _:
                raise ValueError(f"{node.name}: {type(node).__name__} cannot be written as ONNX")

    def _normalise(self, node: Normalise) -> Value:
        tensor, writer = node.inputs[0], self.writer
        if node.mean.any():
            tensor = writer.op(
                "Sub", [tensor, writer.channels(f"{node.name}/mean", node.mean, 3)], f"{node.name}/centred"
            )
        if (node.std != 1).any():
            tensor = writer.op("Div", [tensor, writer.channels(f"{node.name}/std", node.std, 3)], node.name)
        return Value(once=tensor)

    def _affine(self, node: Affine) -> Value:
        writer, rank = self.writer, len(self.signals[node.name].shape)
        scale = writer.channels(f"{node.name}/scale", node.scale, rank)
        shift = writer.channels(f"{node.name}/shift", node.shift, rank)
        unit = self._unit(node.inputs[0])

        def apply(tensor: str, output: str) -> str:
            tensor = writer.times(tensor, unit, f"{output}/value")
            return writer.op("Add", [writer.op("Mul", [tensor, scale], f"{output}/scaled"), shift], output)

        return self._each(node.inputs[0], node.name, apply)

    def _unit(self, name: str) -> float:
        """What a signal's tensor has to be multiplied with to give its value."""
        spikes = self.signals[name].spikes
        return 1.0 if spikes is None else spikes.unit

    def _reshaped(self, node: AvgPool | Flatten) -> Value:
        source = node.inputs[0]
        if isinstance(node, AvgPool) and self.signals[source].spikes is not None:
            return self._summed(node)

        def apply(tensor: str, output: str) -> str:
            if isinstance(node, Flatten):
                return self.writer.op("Flatten", [tensor], output)
            return self._average(node, tensor, output)

        if self._only_read_out(node):
            return Value(once=apply(self.total(source), node.name))
        return replace(self._each(source, node.name, apply), packed=self.values[source].packed)

    def _summed(self, node: AvgPool) -> Value:
        """A pool of spikes: their sums, whole numbers; the divisor is in their unit.

        The provider averages bytes to bytes, rounding, unless a quantisation follows that says how. So sums that fit 8
        bits are packed at once, and others come from spikes that were not.
        """
        source, factor = node.inputs[0], prod(node.window.kernel)
        spikes = self.signals[node.name].spikes
        assert spikes is not None

        def apply(tensor: str, output: str) -> str:
            return self.writer.times(self._average(node, tensor, f"{output}/average"), factor, output)

        if self._only_read_out(node):
            return Value(once=apply(self._unpacked_total(source), node.name))
        value = self.values[source]
        if self._fits(spikes):
            sums = self._each(source, node.name, apply)
            return self._packed(node.name, sums.steps or [str(sums.once)])
        unpacked = value.unpacked or ([value.once] if value.once is not None else self._steps(source))
        summed = [apply(tensor, f"{node.name}/{t}") for t, tensor in enumerate(unpacked, 1)]
        return Value(steps=summed) if self.signals[node.name].timed else Value(once=summed[0])

    def _largest(self, node: MaxPool) -> Value:
        """A max pool, of spikes through 8 bits again where they fit."""
        source, attributes = node.inputs[0], _window_attributes(node.window)
        value, spikes = self.values[source], self.signals[node.name].spikes

        def apply(tensor: str, output: str) -> str:
            return self.writer.op("MaxPool", [tensor], output, **attributes)

        if value.unpacked is None or spikes is None:
            return self._each(source, node.name, apply)
        largest = [apply(tensor, f"{node.name}/{t}") for t, tensor in enumerate(value.unpacked, 1)]
        return self._packed(node.name, largest)

    def _mean(self, node: TimeMean) -> Value:
        """The mean over time: of spikes their sum, whole numbers; the divisor is in their unit."""
        spikes, total = self.signals[node.name].spikes, self._unpacked_total(node.inputs[0])
        if spikes is None:
            return Value(once=self.writer.times(total, 1 / self.graph.timesteps, node.name))
        return self._packed(node.name, [total]) if self._fits(spikes) else Value(once=total)

    def _average(self, node: AvgPool, tensor: str, output: str) -> str:
        if node.window.kernel == self.signals[node.inputs[0]].shape[1:] and node.window.padding == (0, 0):
            return self.writer.op("GlobalAveragePool", [tensor], output)
        attributes = _window_attributes(node.window)
        del attributes["dilations"]
        return self.writer.op("AveragePool", [tensor], output, count_include_pad=1, **attributes)

    def _packed(self, name: str, spikes: list[str]) -> Value:
        """Spikes of each step, or of all together, through 8 bits."""
        packed = [self.writer.pack(tensor, 1, f"{name}/uint8/{t}") for t, tensor in enumerate(spikes, 1)]
        held = self.writer.unpack(self._concat(packed, f"{name}/uint8"), 1, f"{name}/held")
        if self.signals[name].timed:
            return Value(stacked=held, packed=True, unpacked=spikes)
        return Value(once=held, packed=True, unpacked=spikes)

    def _only_read_out(self, node: Node) -> bool:
        """Whether the read-out alone sees this node: then it works on the sum over time, once instead of T times."""
        return all(
            (isinstance(reader, Linear) and reader.head)
            or (isinstance(reader, AvgPool | Flatten) and self._only_read_out(reader))
            for reader in self.graph.consumers(node.name)
        )

    def _head(self, node: Linear) -> Value:
        """The read-out in float32: its sums over whole maps would not fit 8 bits, and it is small."""
        source = node.inputs[0]
        mean = 1 / self.graph.timesteps if self.signals[source].timed else 1.0
        tensor = self.total(source)
        weight = self.writer.constant(
            f"{node.name}/weight", (node.weight * self._unit(source) * mean).T.astype(np.float32)
        )
        return Value(once=self._biased(node, self.writer.op("MatMul", [tensor, weight], f"{node.name}/product")))

    def _biased(self, node: Linear, product: str) -> str:
        bias = self.writer.constant(f"{node.name}/bias", node.bias.astype(np.float32))
        return self.writer.op("Add", [product, bias], node.name)

    def _weighted(self, node: Weighted) -> Value:
        """A convolution or matrix product; of spikes with 8-bit weights where the precision asks for them."""
        source = node.inputs[0]
        signal = self.signals[source]
        node = scaled(node, np.full(len(node.weight), self.gains.get(node.name, 1.0)))
        node = replace(node, weight=node.weight * self._unit(source))
        if signal.spikes is not None and self._fits(signal.spikes):
            tensor, weight = self._stacked(source), self._int8(node, signal.spikes)
        else:
            tensor = self._stacked(source)
            weight = self.writer.constant(f"{node.name}/weight", _layout(node, node.weight).astype(np.float32))
        if isinstance(node, Conv):
            bias = self.writer.constant(f"{node.name}/bias", node.bias.astype(np.float32))
            attributes = _window_attributes(node.window)
            output = self.writer.op("Conv", [tensor, weight, bias], node.name, group=node.groups, **attributes)
        else:
            output = self._biased(node, self.writer.op("MatMul", [tensor, weight], f"{node.name}/product"))
        return Value(stacked=output) if signal.timed else Value(once=output)

    def _fits(self, spikes: Spikes) -> bool:
        """Whether these spikes go through 8 bits."""
        return self.precision == "int8" and spikes.maximum <= UINT8_MAX

    def _int8(self, node: Weighted, spikes: Spikes) -> str:
        integers, scale = quantise(node.weight, spikes.maximum)
        axis = 0 if isinstance(node, Conv) else 1
        return self.writer.int8(node.name, _layout(node, integers), scale, axis)

    def _add(self, node: Add) -> Value:
        gain = self.gains.get(node.name, 1.0)
        terms = []
        for name in node.inputs:
            # Currents carry the gain already, from the weights that made them.
            factor = 1.0 if self.signals[name].spikes is None else self._unit(name) * gain
            apply = _scale_by(self.writer, factor)
            terms.append(self._each(name, f"{node.name}/{name}", apply))
        self_timed = self.signals[node.name].timed
        lists = [term.steps or [str(term.once)] * (self.graph.timesteps if self_timed else 1) for term in terms]
        sums = [self.writer.sum(tensors, f"{node.name}/{t}") for t, tensors in enumerate(zip(*lists, strict=True), 1)]
        return Value(steps=sums) if self_timed else Value(once=sums[0])

    def neurons(self, node: Neurons) -> Value:
        """Write a spiking layer."""
        source, writer = node.inputs[0], self.writer
        currents = self._currents(node, self._steps(source))
        factor = self._unit(source) / node.threshold if source not in self.gains else 1.0
        membrane: str | None = None
        spikes = []
        for t, current in enumerate(currents, 1):
            name = f"{node.name}/{t}"
            current = writer.times(current, factor, f"{name}/current")
            leak = 1.0 if node.leak is None or (t - 1) % node.substeps else node.leak
            if membrane is not None:
                carried = writer.times(membrane, leak, f"{name}/carried")
                current = writer.op("Add", [carried, current], f"{name}/charged")
            elif node.initial:
                carried = writer.scalar(leak * node.initial / node.threshold)
                current = writer.op("Add", [current, carried], f"{name}/charged")
            fired = writer.op("Floor", [current], f"{name}/floor")
            limits = [writer.scalar(0), writer.scalar(node.levels)]
            spikes.append(writer.op("Clip", [fired, *limits], f"{name}/spikes"))
            if t < len(currents):
                membrane = writer.op("Sub", [current, spikes[-1]], f"{name}/membrane")
        if node.factored:
            spikes = [writer.sum(spikes, f"{node.name}/total")]
        signal = self.signals[node.name]
        assert signal.spikes is not None
        if not self._fits(signal.spikes):
            return Value(steps=spikes) if signal.timed else Value(once=spikes[0])
        return self._packed(node.name, spikes)

    def _currents(self, node: Neurons, inputs: list[str]) -> list[str]:
        """T-GIM: the current of each step from those of all."""
        if node.mixing is None:
            return inputs
        if node.mixing.ndim == 1:
            return [
                self.writer.times(tensor, gain, f"{node.name}/{t}/mixed")
                for t, (tensor, gain) in enumerate(zip(inputs, node.mixing, strict=True), 1)
            ]
        mixed: list[str] = []
        for t, row in enumerate(node.mixing, 1):
            if t > 1 and np.array_equal(row, node.mixing[t - 2]):  # a sub-step of a reparameterised layer
                mixed.append(mixed[-1])
                continue
            terms = [
                self.writer.times(tensor, weight, f"{node.name}/{t}/from{j}")
                for j, (tensor, weight) in enumerate(zip(inputs, row, strict=True), 1)
            ]
            mixed.append(self.writer.sum(terms, f"{node.name}/{t}/mixed"))
        return mixed


def _scale_by(writer: Writer, factor: float) -> Callable[[str, str], str]:
    return lambda tensor, output: writer.times(tensor, factor, output)


def _layout(node: Weighted, weight: Any) -> Any:
    """ONNX multiplies rows from the left: a matrix is stored [in, out]."""
    return weight if isinstance(node, Conv) else weight.T


def _window_attributes(window: Window) -> dict[str, list[int]]:
    return {
        "kernel_shape": list(window.kernel),
        "strides": list(window.stride),
        "pads": [*window.padding, *window.padding],
        "dilations": list(window.dilation),
    }
