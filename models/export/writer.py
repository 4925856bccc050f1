"""A thin writer of ONNX graphs: nodes and constants by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

# What ONNX Runtime's OpenVINO build 1.24 reads; onnx itself would write newer ones.
OPSET, IR_VERSION = 18, 10

Output = tuple[str, int, tuple[int, ...]]


class Writer:
    """Collects the nodes and constants of one graph. Every tensor of it has the batch as its first axis."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def op(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node with one output, and return that output's name."""
        self._nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def split(self, tensor: str, parts: int, prefix: str) -> list[str]:
        """Cut a tensor into equal parts along the batch axis."""
        if parts == 1:
            return [tensor]
        names = [f"{prefix}/{index + 1}" for index in range(parts)]
        self._nodes.append(helper.make_node("Split", [tensor], names, name=prefix, axis=0, num_outputs=parts))
        return names

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        """Add a constant; one of the same name is replaced."""
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def scalar(self, value: float) -> str:
        """A float32 scalar, shared by all who use the same value."""
        number = np.array(value, np.float32)
        return self.constant(f"scalar/{float(number)!r}", number)

    def times(self, tensor: str, factor: float, output: str) -> str:
        """tensor·factor; the tensor itself when the factor is 1."""
        return tensor if np.float32(factor) == 1 else self.op("Mul", [tensor, self.scalar(factor)], output)

    def sum(self, tensors: Sequence[str], output: str) -> str:
        """The sum of tensors, added one after the other."""
        total = tensors[0]
        for index, tensor in enumerate(tensors[1:], 2):
            total = self.op("Add", [total, tensor], output if index == len(tensors) else f"{output}/{index}")
        return total

    def channels(self, name: str, value: npt.NDArray[np.float64], rank: int) -> str:
        """A float32 constant per channel, [C, 1, …], for tensors of this rank without the batch."""
        return self.constant(name, value.reshape(-1, *[1] * (rank - 1)).astype(np.float32))

    def model(self, inputs: Sequence[Output], outputs: Sequence[Output]) -> onnx.ModelProto:
        """The checked model; inputs and outputs are (name, element type, shape without the batch)."""
        infos = [
            [helper.make_tensor_value_info(name, kind, ["batch", *shape]) for name, kind, shape in values]
            for values in (inputs, outputs)
        ]
        graph = helper.make_graph(self._nodes, "lm-ht", infos[0], infos[1], list(self._constants.values()))
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="lmht-serve"
        )
        onnx.checker.check_model(model)
        return model


FLOAT, DOUBLE = int(TensorProto.FLOAT), int(TensorProto.DOUBLE)
