"""A thin writer of ONNX graphs: nodes and constants by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

# What ONNX Runtime reads since 1.18, and OpenVINO; onnx itself would write newer ones.
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

    def pack(self, tensor: str, scale: float, output: str) -> str:
        """Whole multiples 0..255 of a scale as uint8, exactly."""
        return self.op("QuantizeLinear", [tensor, self.scalar(scale), self._uint8_zero()], output)

    def unpack(self, tensor: str, scale: float, output: str) -> str:
        """The way back from `pack`."""
        return self.op("DequantizeLinear", [tensor, self.scalar(scale), self._uint8_zero()], output)

    def _uint8_zero(self) -> str:
        return self.constant("uint8/zero", np.array(0, np.uint8))

    def int8(self, name: str, integers: npt.NDArray[np.int8], scale: npt.NDArray[np.float32], axis: int) -> str:
        """8-bit weights with one scale for each index of ``axis``, as the float32 tensor scale·integers.

        They pass a QuantizeLinear that changes nothing, since a quantisation is what no runtime folds. ONNX Runtime's
        OpenVINO provider does fold constants before it looks for weights of 8 bits, where a graph has nodes outside of
        it (here the exact counts in float64), and would multiply float32 by float32.

        Called again with the same name, it gives the same tensor.
        """
        if f"{name}/int8" in self._constants:
            return f"{name}/weight"
        channels = len(scale)
        zero = self.constant(f"int8/zeros/{channels}", np.zeros(channels, np.int8))
        one = self.constant(f"int8/ones/{channels}", np.ones(channels, np.float32))
        whole = self.op("Cast", [self.constant(f"{name}/int8", integers)], f"{name}/whole", to=FLOAT)
        held = self.op("QuantizeLinear", [whole, one, zero], f"{name}/held", axis=axis)
        return self.op(
            "DequantizeLinear", [held, self.constant(f"{name}/scale", scale), zero], f"{name}/weight", axis=axis
        )

    def channels(self, name: str, value: npt.NDArray[np.float64], rank: int) -> str:
        """A float32 constant per channel, [C, 1, …], for tensors of this rank without the batch."""
        return self.constant(name, value.reshape(-1, *[1] * (rank - 1)).astype(np.float32))

    def file(self, inputs: Sequence[Output], outputs: Sequence[Output]) -> bytes:
        """The checked model as a file; inputs and outputs are (name, element type, shape without the batch)."""
        infos = [
            [helper.make_tensor_value_info(name, kind, ["batch", *shape]) for name, kind, shape in values]
            for values in (inputs, outputs)
        ]
        graph = helper.make_graph(self._nodes, "lm-ht", infos[0], infos[1], list(self._constants.values()))
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="lmht-serve"
        )
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())


FLOAT, DOUBLE = int(TensorProto.FLOAT), int(TensorProto.DOUBLE)
