"""What is carried out together: the nodes that a layer of neurons, or a sum of currents, takes in."""

from __future__ import annotations

from dataclasses import dataclass

from models.export.graph import Add, Graph, Linear, Neurons, Node, Weighted
from models.fused.weights import Precision

# The largest whole number below which float16 has all.
_HALF_MOST = 2048


@dataclass(frozen=True)
class Current:
    """What makes a current: a weighted node's products plus a residual; or a signal as it is, where there is none."""

    signal: str
    main: Weighted | None = None
    residual: str | None = None


class Merging:
    """Says what is carried out with what, at a precision of the weights that multiply spikes.

    Args:
        graph: with norms folded, see `models.fused.folding`.
        precision: of weights; in float32 no kernel convolves.
    """

    def __init__(self, graph: Graph, precision: Precision) -> None:
        self._graph = graph
        self._precision = precision
        self._signals = graph.signals()
        self._nodes = {node.name: node for node in graph.nodes}

    def takes_in(self, node: Node) -> set[str]:
        """The nodes that are carried out together with this one, and before it not at all."""
        match node:
            case Neurons():
                current = self.current(node.inputs[0])
            case Add():
                current = self.summed(node)
            case _:
                return set()
        inner = {current.main.name} if current.main is not None else set()
        if isinstance(node, Neurons) and current.residual is not None:
            inner.add(current.signal)
        return inner

    def _alone(self, name: str) -> bool:
        return len(self._graph.consumers(name)) == 1

    # What makes a current

    def current(self, name: str) -> Current:
        """What neurons take in."""
        node = self._nodes.get(name)
        if isinstance(node, Weighted) and self._alone(name):
            return Current(name, node)
        if isinstance(node, Add) and self._alone(name):
            return self._split(node, [n for n in node.inputs if self._may_be_main(n, node)])
        return Current(name)

    def summed(self, node: Add) -> Current:
        """What a sum takes in that is not taken in itself: only what a kernel adds to."""
        mains = [n for n in node.inputs if self._may_be_main(n, node)]
        return self._split(node, [n for n in mains if self.has_kernel(self._nodes[n])])

    def _split(self, node: Add, mains: list[str]) -> Current:
        if not mains:
            return Current(node.name)
        # The larger of two convolutions; ones that no kernel takes come last.
        main = max(mains, key=lambda n: (self.has_kernel(self._nodes[n]), self._weighted(n).weight.size))
        first, second = node.inputs
        return Current(node.name, self._weighted(main), second if main == first else first)

    def _may_be_main(self, name: str, total: Add) -> bool:
        node = self._nodes.get(name)
        return (
            isinstance(node, Weighted)
            and self._alone(name)
            and total.inputs[0] != total.inputs[1]
            and self._signals[name].timed == self._signals[total.name].timed
        )

    def _weighted(self, name: str) -> Weighted:
        node = self._nodes[name]
        assert isinstance(node, Weighted)
        return node

    def has_kernel(self, node: Node) -> bool:
        """Whether a node is one that the kernels convolve or multiply: of spikes, with a square window."""
        if not isinstance(node, Weighted) or self._precision == "float32":
            return False
        spikes = self._signals[node.inputs[0]].spikes
        if spikes is None or spikes.maximum > _HALF_MOST:
            return False
        if isinstance(node, Linear):
            return not node.head
        w = node.window
        square = all(len(set(pair)) == 1 for pair in (w.kernel, w.stride, w.padding))
        return square and w.dilation == (1, 1) and node.groups == 1
