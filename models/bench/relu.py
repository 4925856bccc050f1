"""The limit that an LM-HT network is measured against: its architecture as an ordinary 8-bit network with ReLUs.

The same convolutions, with the same weights of 8 bits, read activations of 8 bits; a layer costs one convolution and a
rounding. What T passes of it take is what T time-steps would take if spiking neurons cost nothing.
"""

from __future__ import annotations

from models.export.graph import IMAGES, Graph, Neurons, fold_norms
from models.export.lowering import Lowering, Value
from models.export.quantisation import UINT8_MAX
from models.export.writer import FLOAT, Writer


def lower(graph: Graph) -> bytes:
    """The ONNX file of the ReLU network in a graph of T = 1: input ``images``, output ``logits``.

    Activations between 0 and L, in units of the threshold, are rounded to 255 steps. Raises ValueError for another T.
    """
    if graph.timesteps != 1:
        raise ValueError(f"a ReLU network has one time-step, not {graph.timesteps}")
    graph = fold_norms(graph)
    writer = Writer()
    logits = _Relus(graph, "int8", writer).run()
    writer.op("Identity", [logits], "logits")
    classes = graph.signals()[graph.nodes[-1].name].shape
    return writer.file([(IMAGES, FLOAT, graph.input_shape)], [("logits", FLOAT, classes)])


class _Relus(Lowering):
    """With rounded ReLUs for the neurons."""

    def neurons(self, node: Neurons) -> Value:
        writer = self.writer
        current = writer.op("Relu", [self.total(node.inputs[0])], f"{node.name}/relu")
        step = node.levels / UINT8_MAX
        held = writer.unpack(writer.pack(current, step, f"{node.name}/uint8"), step, f"{node.name}/held")
        return Value(once=held, packed=True)
