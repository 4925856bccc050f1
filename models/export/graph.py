"""A network at one budget as plain data: what all that is not PyTorch works from.

Nodes are in order of execution; values are float64. Shapes are those of one image and one time-step: a signal whose
`Signal.timed` is true exists once per time-step, any other once per pass. Spikes travel as values unit·integer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Pair = tuple[int, int]
Shape = tuple[int, ...]
IMAGES = "images"


@dataclass(frozen=True)
class Node:
    """An operation; its output goes by its name."""

    name: str
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Normalise(Node):
    """(x − mean) / std per channel; mean and std [C]."""

    mean: Array
    std: Array


@dataclass(frozen=True)
class Window:
    """How a convolution or a pool walks over a map: (rows, columns) each."""

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    def outputs(self, size: Pair) -> Pair:
        """The size of the map it makes of one of ``size``."""
        spans = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True)]
        rows, columns = (
            (n + 2 * p - span) // s + 1 for n, p, span, s in zip(size, self.padding, spans, self.stride, strict=True)
        )
        return rows, columns


@dataclass(frozen=True)
class Conv(Node):
    """Convolution; weight [out, in/groups, rows, columns], bias [out]."""

    weight: Array
    bias: Array
    window: Window
    groups: int = 1


@dataclass(frozen=True)
class Linear(Node):
    """Matrix product; weight [out, in], bias [out]. ``head`` is the read-out: of the mean over time, hence once."""

    weight: Array
    bias: Array
    head: bool = False


Weighted = Conv | Linear


@dataclass(frozen=True)
class Affine(Node):
    """x·scale + shift per channel; scale and shift [C]."""

    scale: Array
    shift: Array


@dataclass(frozen=True)
class Add(Node):
    """Sum of two signals of one shape."""


@dataclass(frozen=True)
class AvgPool(Node):
    """Average over windows; padding counts as zeros."""

    window: Window


@dataclass(frozen=True)
class MaxPool(Node):
    """The largest value of each window; padding never is."""

    window: Window


@dataclass(frozen=True)
class TimeMean(Node):
    """The mean over the time-steps."""


@dataclass(frozen=True)
class Flatten(Node):
    """A map made a vector."""


@dataclass(frozen=True)
class Neurons(Node):
    """A spiking layer.

    ``mixing`` is ω [T, T] for currents at every step, or gains [T] for a current without time; None: x_t = I_t.
    ``initial`` is v_0 itself, not a fraction of θ. When ``factored`` the output is the mean over time. The leak acts on
    the first of every ``substeps`` steps.
    """

    mixing: Array | None
    leak: float | None
    initial: float
    threshold: float
    levels: int
    factored: bool
    substeps: int = 1


@dataclass(frozen=True)
class Spikes:
    """Spikes of a layer: value = unit·n, 0 ≤ n ≤ maximum, after pools that summed ``window`` positions."""

    source: str
    unit: float
    maximum: int
    window: int = 1


@dataclass(frozen=True)
class Signal:
    """What is known of a node's output: its shape, whether it has a time axis, and its spikes (None: real values)."""

    shape: Shape
    timed: bool
    spikes: Spikes | None = None


@dataclass(frozen=True)
class Graph:
    """A network at one budget. The last node is the read-out, whose output is the logits."""

    timesteps: int
    input_shape: Shape
    nodes: tuple[Node, ...]

    @property
    def layers(self) -> tuple[Neurons, ...]:
        """The spiking layers, in order."""
        return tuple(node for node in self.nodes if isinstance(node, Neurons))

    def consumers(self, name: str) -> list[Node]:
        """The nodes that read this output."""
        return [node for node in self.nodes if name in node.inputs]

    def signals(self) -> dict[str, Signal]:
        """Every output, and the images, by name. Raises ValueError where shapes do not fit."""
        signals = {IMAGES: Signal(self.input_shape, timed=False)}
        for node in self.nodes:
            signals[node.name] = self.signal(node, [signals[name] for name in node.inputs])
        return signals

    def signal(self, node: Node, inputs: list[Signal]) -> Signal:
        """The output of a node for given inputs. Raises ValueError where shapes do not fit."""
        first = inputs[0]
        match node:
            case Conv(weight=weight, window=window, groups=groups):
                channels, rows, columns = first.shape
                if channels != weight.shape[1] * groups:
                    raise ValueError(f"{node.name}: {channels} channels for a kernel of {weight.shape[1] * groups}")
                return Signal((len(weight), *window.outputs((rows, columns))), first.timed)
            case Linear(weight=weight, head=head):
                if first.shape != weight.shape[1:]:
                    raise ValueError(f"{node.name}: an input of shape {first.shape} for a matrix {weight.shape}")
                return Signal((len(weight),), first.timed and not head)
            case Neurons():
                unit = node.threshold / self.timesteps if node.factored else node.threshold
                maximum = node.levels * self.timesteps if node.factored else node.levels
                return Signal(first.shape, not node.factored, Spikes(node.name, unit, maximum))
            case AvgPool(window=window):
                channels, rows, columns = first.shape
                spikes = first.spikes and _pooled(first.spikes, prod(window.kernel))
                return Signal((channels, *window.outputs((rows, columns))), first.timed, spikes)
            case MaxPool(window=window):
                channels, rows, columns = first.shape
                return replace(first, shape=(channels, *window.outputs((rows, columns))))
            case TimeMean():
                return Signal(first.shape, False, first.spikes and _averaged(first.spikes, self.timesteps))
            case Flatten():
                return replace(first, shape=(prod(first.shape),))
            case Add():
                if len({signal.shape for signal in inputs}) != 1:
                    raise ValueError(f"{node.name}: adds shapes {', '.join(str(s.shape) for s in inputs)}")
                return Signal(first.shape, any(signal.timed for signal in inputs))
            case _:
                return replace(first, spikes=None)


def _pooled(spikes: Spikes, window: int) -> Spikes:
    return replace(spikes, unit=spikes.unit / window, maximum=spikes.maximum * window, window=spikes.window * window)


def _averaged(spikes: Spikes, timesteps: int) -> Spikes:
    return replace(spikes, unit=spikes.unit / timesteps, maximum=spikes.maximum * timesteps)


def fold_norms(graph: Graph) -> Graph:
    """Put every affine node that follows a convolution or matrix of its own into that one's weights and bias."""
    nodes: dict[str, Node] = {}
    renamed: dict[str, str] = {}
    for node in graph.nodes:
        alone = len(graph.consumers(node.inputs[0])) == 1
        node = replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))
        before = nodes.get(node.inputs[0])
        if isinstance(node, Affine) and isinstance(before, Weighted) and alone:
            nodes[before.name] = scaled(before, node.scale, node.shift)
            renamed[node.name] = before.name
        else:
            nodes[node.name] = node
    return replace(graph, nodes=tuple(nodes.values()))


def scaled(node: Weighted, scale: Array, shift: Array | float = 0.0) -> Weighted:
    """The same node with its output multiplied by ``scale`` [out] and moved by ``shift``."""
    columns = scale.reshape(-1, *[1] * (node.weight.ndim - 1))
    return replace(node, weight=node.weight * columns, bias=node.bias * scale + shift)
