"""Units of the threshold: 1/θ goes into the weights that make a layer's current, so that it fires at whole numbers."""

from __future__ import annotations

from models.export.graph import Add, Graph, Weighted


def gains(graph: Graph) -> dict[str, float]:
    """Where 1/θ goes into the weights that make a layer's current: by name of the nodes between, the factor."""
    found: dict[str, float] = {}
    for layer in graph.layers:
        makers = _makers(graph, layer.inputs[0])
        if layer.threshold != 1 and makers is not None:
            found |= dict.fromkeys(makers, 1 / layer.threshold)
    return found


def _makers(graph: Graph, name: str) -> list[str] | None:
    """The sums and weighted nodes that make a current and nothing else; None when it cannot be told apart."""
    signals = graph.signals()
    node = next((n for n in graph.nodes if n.name == name), None)
    if node is None or len(graph.consumers(name)) != 1:
        return None
    if isinstance(node, Weighted):
        return [name]
    if not isinstance(node, Add):
        return None
    makers = [name]
    for source in node.inputs:
        if signals[source].spikes is None:
            more = _makers(graph, source)
            if more is None:
                return None
            makers += more
    return makers
