"""ONNX Runtime's CPU provider: slower than OpenVINO, but for every processor, and the measure of what is right.

Sessions are made from the bytes whose hash was verified, never from the path; so a graph's external data, which no hash
covers, is refused by the runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from models.bundle import FloatArray
from service.engines import EngineError
from service.engines.cpu.runtimes import BATCH, GraphError, Run, Signature

_PROVIDER = "CPUExecutionProvider"
_FATAL = 4  # errors are raised; the runtime's own print of them, and its warnings, would only be noise
# What ONNX Runtime raises about a graph has no common base of its own; the last two come from setting it up.
_GRAPH_ERRORS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoModel,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)
_ERRORS = (*_GRAPH_ERRORS, ort_errors.EPFail, RuntimeError, ValueError)
_KINDS = {"tensor(float)": "float32", "tensor(double)": "float64"}


class OnnxRuntime:
    """See `service.engines.cpu.runtimes.Runtime`."""

    name = f"onnxruntime/{_PROVIDER}"
    lets_go = False

    def open(self, graph: bytes, *, batch: int, threads: int, expected: Signature | None = None) -> Run:
        """Make a session for batches of one size; see `Runtime.open`."""
        options = ort.SessionOptions()
        options.log_severity_level = _FATAL
        options.add_free_dimension_override_by_name(BATCH, batch)
        # Each session has a pool of its own; idle ones must not spin on the cores that another one works on.
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # This provider's operators for 8 bits round their outputs too, which currents are not to be; where they were
        # let in, they were slower.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        try:
            # Without enable_fallback=0 a provider that fails is replaced by another with a print to stdout.
            session = ort.InferenceSession(graph, options, providers=[_PROVIDER], enable_fallback=0)
        except _GRAPH_ERRORS as error:
            raise GraphError(f"ONNX Runtime cannot use it: {_first_line(error)}") from error
        except _ERRORS as error:
            raise EngineError(f"ONNX Runtime does not start here: {_first_line(error)}") from error
        if expected is not None:
            expected.check(_signature(session, batch))
        return _Session(session, batch)


class _Session:
    def __init__(self, session: ort.InferenceSession, batch: int) -> None:
        self._session = session
        self._batch = batch
        self._input = session.get_inputs()[0].name
        self._outputs = [output.name for output in session.get_outputs()]

    def __call__(self, images: FloatArray) -> Mapping[str, npt.NDArray[Any]]:
        padded = images
        if len(images) < self._batch:
            padded = np.zeros((self._batch, *images.shape[1:]), np.float32)
            padded[: len(images)] = images
        try:
            outputs = self._session.run(self._outputs, {self._input: padded})
        except _ERRORS as error:
            raise EngineError(f"ONNX Runtime: {_first_line(error)}") from error
        return {name: output[: len(images)] for name, output in zip(self._outputs, outputs, strict=True)}


def _signature(session: ort.InferenceSession, batch: int) -> Signature:
    inputs, outputs = (
        {tensor.name: (_KINDS.get(tensor.type, tensor.type), _with_batch_axis(tensor.shape, batch)) for tensor in side}
        for side in (session.get_inputs(), session.get_outputs())
    )
    return Signature(inputs, outputs)


def _with_batch_axis(shape: list[Any], size: int) -> tuple[int | str, ...]:
    """The shape as it stands in the file, before the first axis was fixed to ``size``."""
    return (BATCH, *shape[1:]) if shape[:1] == [size] else tuple(shape)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:500]
