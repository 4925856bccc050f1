"""Norms and scales beside the weights that they follow: those are the same for every budget, norms are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from models.export.graph import Affine, Array, Graph, Node, Weighted


@dataclass(frozen=True)
class Outward:
    """What becomes of a weighted node's products: scale·x + shift, its bias included; float64 [out] each."""

    scale: Array
    shift: Array


def fold(graph: Graph) -> tuple[Graph, Mapping[str, Outward]]:
    """The graph without the affine nodes that follow a weighted one of their own, and what they do, by its name.

    Every weighted node has an entry. `models.export.graph.fold_norms` puts the same into the weights.
    """
    nodes: dict[str, Node] = {}
    renamed: dict[str, str] = {}
    outward: dict[str, Outward] = {}
    for node in graph.nodes:
        alone = len(graph.consumers(node.inputs[0])) == 1
        node = replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))
        source = node.inputs[0]
        if isinstance(node, Affine) and isinstance(nodes.get(source), Weighted) and alone:
            before = outward[source]
            outward[source] = Outward(before.scale * node.scale, before.shift * node.scale + node.shift)
            renamed[node.name] = source
            continue
        nodes[node.name] = node
        if isinstance(node, Weighted):
            outward[node.name] = Outward(np.ones(len(node.bias)), node.bias)
    return replace(graph, nodes=tuple(nodes.values())), outward
