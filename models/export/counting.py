"""Where the spikes of a network go, and how many synapses each of them reaches.

For an edge from a spiking layer to a convolution, a unit spike at row i and column j of the layer's map reaches
(C_out/groups)·f(i)·f(j) synapses, where f counts the outputs that read a row or column, borders, strides and pools
included. All kinds of edges have this separable form, so one description serves the graph's counters and the manifest.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from models import bundle
from models.export.graph import (
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
    Shape,
    Signal,
    TimeMean,
    Window,
)


@dataclass(frozen=True)
class Edge:
    """An edge of a spiking layer: synops = fan · Σ u[c, i, j] · rows[i] · columns[j] over the unit spikes u of a node.

    ``source`` is that node: the layer itself, or the last max pool on the way, whose output nothing but the pooled
    spikes tells. Vectors have one row and one column.
    """

    source: str
    target: str
    kind: str
    fan: int
    fan_out: int
    window: int
    rows: Array
    columns: Array


def coverage(readers: Array, size: int, kernel: int, stride: int, padding: int, dilation: int) -> Array:
    """How often each of ``size`` inputs is read along one axis, when output o is itself read ``readers[o]`` times."""
    counts = np.zeros(size)
    for output, times in enumerate(readers):
        for tap in range(kernel):
            position = output * stride - padding + tap * dilation
            if 0 <= position < size:
                counts[position] += times
    return counts


def edges(graph: Graph, layer: Neurons) -> list[Edge]:
    """The outgoing edges of a spiking layer, in order of execution."""
    signals = graph.signals()
    found: list[Edge] = []
    _follow(graph, signals, layer.name, layer, [], found)
    return found


def _follow(
    graph: Graph, signals: dict[str, Signal], source: str, node: Node, path: list[Node], found: list[Edge]
) -> None:
    """Find the edges behind ``node``, which lies at the end of ``path``; both begin after ``source``."""
    for reader in graph.consumers(node.name):
        match reader:
            case Conv() | Linear() | Neurons():
                found.append(_edge(signals, source, reader, path))
            case MaxPool() if not path:
                _follow(graph, signals, reader.name, reader, [], found)
            case AvgPool() | Flatten() | Add() | TimeMean():
                _follow(graph, signals, source, reader, [*path, reader], found)
            case _:
                raise ValueError(f"{source}: spikes go into {reader.name}, which has no account")


def _edge(signals: dict[str, Signal], source: str, reader: Node, path: list[Node]) -> Edge:
    if any(isinstance(node, Add) for node in path) and not isinstance(reader, Neurons):
        raise ValueError(f"{reader.name} reads a sum of spikes and currents, which is real-valued")
    # sizes[i] is the shape that enters path[i]; the last one enters the reader.
    sizes = [signals[source].shape, *(signals[node.name].shape for node in path)]
    rows, columns = _ones(sizes[-1])
    fan, fan_out, kind, pool = 1, 1, "identity", 1
    if isinstance(reader, Conv):
        fan, kind = len(reader.weight) // reader.groups, "conv"
        fan_out = fan * prod(reader.window.kernel)
        rows, columns = _read(reader.window, *_ones(signals[reader.name].shape), sizes[-1])
    elif isinstance(reader, Linear):
        fan = fan_out = len(reader.weight)
        kind = "linear"
    for node, size in reversed(list(zip(path, sizes, strict=False))):
        if isinstance(node, Flatten):
            rows, columns = _ones(size)
        elif isinstance(node, AvgPool):
            rows, columns = _read(node.window, rows, columns, size)
            pool *= prod(node.window.kernel)
    return Edge(source, reader.name, kind, fan, fan_out, pool, rows, columns)


def _ones(shape: Shape) -> tuple[Array, Array]:
    rows, columns = shape[1:] if len(shape) == 3 else (1, 1)
    return np.ones(rows), np.ones(columns)


def _read(window: Window, rows: Array, columns: Array, size: Shape) -> tuple[Array, Array]:
    """`coverage` along both axes of a map of shape ``size``."""
    rows, columns = (
        coverage(readers, n, window.kernel[i], window.stride[i], window.padding[i], window.dilation[i])
        for i, (readers, n) in enumerate(((rows, size[1]), (columns, size[2])))
    )
    return rows, columns


def layers(graph: Graph) -> tuple[bundle.Layer, ...]:
    """The spiking layers as the manifest describes them."""
    signals = graph.signals()
    return tuple(
        bundle.Layer(
            name=node.name,
            neurons=prod(signals[node.name].shape),
            threshold=node.threshold,
            tgim="none" if node.mixing is None else "full" if node.mixing.ndim == 2 else "gains",
            leak=node.leak is not None,
            leak_every=node.substeps,
            edges=tuple(
                bundle.Edge(target=e.target, kind=e.kind, fan_out=e.fan_out, pool_window=e.window)
                for e in edges(graph, node)
            ),
        )
        for node in graph.layers
    )


def connections(graph: Graph) -> tuple[bundle.Connection, ...]:
    """The convolutions and matrices as the manifest describes them."""
    signals = graph.signals()
    found = []
    for node in graph.nodes:
        if isinstance(node, Conv | Linear):
            before, after = signals[node.inputs[0]], signals[node.name].shape
            found.append(
                bundle.Connection(
                    name=node.name,
                    kind="conv" if isinstance(node, Conv) else "linear",
                    macs=prod(after) * prod(node.weight.shape[1:]),
                    weights=node.weight.size,
                    inputs=prod(before.shape),
                    outputs=prod(after),
                    analog=before.spikes is None,
                    runs="each_step" if signals[node.name].timed else "once",
                )
            )
    return tuple(found)
