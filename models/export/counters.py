"""The outputs ``spikes`` and ``synops``: exact integers in float64, per image and spiking layer.

A layer's spikes are summed over channels by a convolution with a kernel of ones (8-bit spikes are read as they are,
which costs less than any reduction), then along columns with each edge's column weights, then over time, in float32,
which is exact below 2²⁴ (checked here). What is left, a few numbers a row of the map, is brought together for all
layers, cast to float64 once, and weighed there: a runtime without 64-bit arithmetic leaves only that to another one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from models.export import counting
from models.export.graph import Array, Graph, Signal
from models.export.writer import DOUBLE, Writer

_EXACT = 2**24


@dataclass(frozen=True)
class Counted:
    """A layer's unit spikes: the tensor, how many time-steps are stacked in it, whether it has been through 8 bits."""

    tensor: str
    steps: int
    packed: bool


def write(writer: Writer, graph: Graph, counted: Callable[[str], Counted]) -> None:
    """Write both outputs. ``counted`` gives the unit spikes of a layer, or of a max pool behind one.

    Raises ValueError when a layer is so large that float32 would lose count.
    """
    signals = graph.signals()
    partials: list[str] = []
    weights: list[Array] = []  # per partial number, what it adds to (spikes, synops) of each layer
    for index, layer in enumerate(graph.layers):
        edges = counting.edges(graph, layer)
        pools = dict.fromkeys(edge.source for edge in edges if edge.source != layer.name)
        for name in (layer.name, *pools):
            signal, mine = signals[name], [edge for edge in edges if edge.source == name]
            everywhere = [np.ones(signal.shape[2] if len(signal.shape) == 3 else 1)] if name == layer.name else []
            columns = _distinct([*everywhere, *(edge.columns for edge in mine)])
            _check(name, signal, columns, layer.levels * graph.timesteps)
            partials.append(_partial(writer, name, counted(name), signal, np.stack(columns, 1)))
            rows = signal.shape[1] if len(signal.shape) == 3 else 1
            weight = np.zeros((rows, len(columns), 2, len(graph.layers)))
            if everywhere:
                weight[:, 0, 0, index] = 1
            for edge in mine:
                column = next(i for i, c in enumerate(columns) if np.array_equal(c, edge.columns))
                weight[:, column, 1, index] += edge.fan * edge.rows
            weights.append(weight.reshape(-1, 2, len(graph.layers)))
    together = writer.op("Concat", partials, "counts/float32", axis=1) if len(partials) > 1 else partials[0]
    numbers = writer.op("Cast", [together], "counts/float64", to=DOUBLE)
    matrix = np.concatenate(weights)
    for position, output in enumerate(("spikes", "synops")):
        writer.op("MatMul", [numbers, writer.constant(f"counts/{output}", matrix[:, position])], output)


def _distinct(columns: list[Array]) -> list[Array]:
    """The same without repetitions."""
    return [c for i, c in enumerate(columns) if not any(np.array_equal(c, d) for d in columns[:i])]


def _check(name: str, signal: Signal, columns: list[Array], maximum: int) -> None:
    per_row = signal.shape[0] * maximum * max(float(c.sum()) for c in columns)
    if per_row >= _EXACT:
        raise ValueError(f"{name}: a row of {prod(signal.shape)} neurons can count to {per_row:.0f}, beyond float32")


def _partial(writer: Writer, name: str, spikes: Counted, signal: Signal, columns: Array) -> str:
    """[steps·B, C, H, W] → [B, H·k], sums over time, channels and weighted columns; [steps·B, N] → [B, 1]."""
    if len(signal.shape) == 1:
        axis = writer.constant("counts/axis", np.array([1], np.int64))
        counts = writer.op("ReduceSum", [spikes.tensor, axis], f"{name}/counts", keepdims=1)
    else:
        summed = writer.op("Conv", [spikes.tensor, _ones(writer, signal.shape[0], spikes.packed)], f"{name}/channels")
        weights = writer.constant(f"{name}/columns", columns.astype(np.float32))
        counts = writer.op(
            "Flatten", [writer.op("MatMul", [summed, weights], f"{name}/rows")], f"{name}/counts", axis=1
        )
    return writer.sum(writer.split(counts, spikes.steps, f"{name}/counts/step"), f"{name}/count")


def _ones(writer: Writer, channels: int, packed: bool) -> str:
    """The kernel that sums over channels, [1, C, 1, 1]."""
    kernel = np.ones((1, channels, 1, 1), np.int8)
    if packed:
        return writer.int8(f"counts/ones/{channels}", kernel, np.ones(1, np.float32), axis=0)
    return writer.constant(f"counts/ones/{channels}", kernel.astype(np.float32))
