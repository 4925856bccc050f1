"""OpenVINO, by its own package.

Spikes are whole numbers and weights are rounded once, on export; what OpenVINO is told here keeps it from rounding
anything else. It knows no 64-bit arithmetic on a CPU (float64 becomes float32 without a word), so the end of a graph,
where counts become float64 and are weighed, is cut off and done in NumPy (see `models.export.counters`).

Compiling takes most of a second a graph, and lets go of Python's lock; what was compiled is kept in a folder and comes
back in a fifth of the time.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov

from models import cpu
from models.bundle import FloatArray
from service.engines import EngineError
from service.engines.cpu.runtimes import BATCH, GraphError, Run, Signature, Tensor, choose
from service.engines.cpu.store import Store

_DEVICE = "CPU"
# Whatever changes what is kept, or how it is to be read, changes this too.
_FORMAT = 1
# bfloat16, which OpenVINO takes where the CPU has it, has 8 bits of mantissa: it moves membranes across thresholds. So
# would rounding what goes into a matrix. Threads stay where the system puts them: pinned ones of several graphs would
# all sit on the first cores.
_SETTINGS = {
    "INFERENCE_PRECISION_HINT": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
    "NUM_STREAMS": "1",
    "ENABLE_CPU_PINNING": "NO",
}
# Names the instructions that oneDNN, which makes the kernels, may use at most.
_ISA_VARIABLE = "ONEDNN_MAX_CPU_ISA"
_KINDS = {"f32": "float32", "f64": "float64"}
# Of an OpenVINO error, lines that say where it was raised and not what is wrong.
_NOISE = ("Exception from", "Check '", "FrontEnd API failed", "Summary:", "To facilitate")

# Two threads that are the first to look into a tensor wait for each other for ever: OpenVINO then makes a table of
# NumPy's types, and lets go of Python's lock while it holds the table's. A module is run by one thread alone.
_ = ov.Tensor(np.zeros(1, np.float32)).data


@dataclass(frozen=True)
class _Output:
    """An output of the whole graph: the ``source``-th of the part that OpenVINO runs, or that in float64 · matrix."""

    name: str
    source: int
    matrix: npt.NDArray[np.float64] | None = None


class OpenVino:
    """See `service.engines.cpu.runtimes.Runtime`.

    Args:
        cache: the folder in which compiled graphs are kept; None keeps none.
    """

    name = f"openvino/{_DEVICE}"
    lets_go = True

    def __init__(self, cache: Path | None = None) -> None:
        self._core = ov.Core()
        self._store = None if cache is None else Store(cache)

    def open(self, graph: bytes, *, batch: int, threads: int, expected: Signature | None = None) -> Run:
        """Compile a graph for batches of one size, or take it from the folder; see `Runtime.open`."""
        settings = _SETTINGS | {"INFERENCE_NUM_THREADS": str(threads)}
        key = _key(graph, batch, settings, expected) if self._store else ""
        if self._store and (kept := self._store.get(key)) and (found := self._restore(kept, settings)):
            return found
        compiled, outputs = self._compile(graph, batch, settings, expected)
        if self._store:
            self._store.put(key, _kept(compiled, outputs))
        return _Pass(compiled, outputs)

    def _compile(
        self, graph: bytes, batch: int, settings: Mapping[str, str], expected: Signature | None
    ) -> tuple[ov.CompiledModel, list[_Output]]:
        _refuse_external_data(graph)
        try:
            whole = self._core.read_model(io.BytesIO(graph))
        except RuntimeError as error:
            raise GraphError(f"OpenVINO cannot read it: {_reason(error)}") from error
        if expected is not None:
            expected.check(_signature(whole))
        part, outputs = _cut(whole)
        image = list(part.inputs[0].partial_shape)[1:]
        try:
            part.reshape({part.inputs[0]: ov.PartialShape([batch, *image])})
            return self._core.compile_model(part, _DEVICE, dict(settings)), outputs
        except RuntimeError as error:
            raise GraphError(f"OpenVINO cannot compile it: {_reason(error)}") from error

    def _restore(self, kept: Mapping[str, npt.NDArray[Any]], settings: Mapping[str, str]) -> Run | None:
        """What was kept, or nothing where this OpenVINO cannot use it."""
        try:
            compiled = self._core.import_model(kept["blob"].tobytes(), _DEVICE, dict(settings))
            names, sources = kept["names"].tolist(), kept["sources"].tolist()
            return _Pass(
                compiled,
                [
                    _Output(name, source, kept.get(f"matrix/{name}"))
                    for name, source in zip(names, sources, strict=True)
                ],
            )
        except (RuntimeError, KeyError, ValueError):
            return None


class _Pass:
    """A compiled graph with memory for its images. One run at a time: it has but one stream."""

    def __init__(self, compiled: ov.CompiledModel, outputs: list[_Output]) -> None:
        self._outputs = outputs
        self._request = compiled.create_infer_request()
        self._images = np.zeros(list(compiled.inputs[0].shape), np.float32)
        self._request.set_input_tensor(ov.Tensor(self._images, shared_memory=True))
        self._results = [self._request.get_output_tensor(index).data for index in range(len(compiled.outputs))]
        self._lock = threading.Lock()

    def __call__(self, images: FloatArray) -> Mapping[str, npt.NDArray[Any]]:
        count = len(images)
        with self._lock:
            self._images[:count] = images
            try:
                self._request.infer(share_outputs=True)
            except RuntimeError as error:
                raise EngineError(f"OpenVINO: {_reason(error)}") from error
            results = [result[:count].copy() for result in self._results]
        return {
            output.name: results[output.source]
            if output.matrix is None
            else results[output.source].astype(np.float64) @ output.matrix
            for output in self._outputs
        }


def _key(graph: bytes, batch: int, settings: Mapping[str, str], expected: Signature | None) -> str:
    """Names a compiled graph by all that it depends on."""
    parts = [
        _FORMAT,
        hashlib.sha256(graph).hexdigest(),
        batch,
        sorted(settings.items()),
        None if expected is None else [expected.inputs, expected.outputs],
        ov.get_version(),
        cpu.model_name(),
        cpu.flags(),
        os.environ.get(_ISA_VARIABLE),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _kept(compiled: ov.CompiledModel, outputs: list[_Output]) -> dict[str, npt.NDArray[Any]]:
    """A compiled graph as arrays."""
    matrices = {f"matrix/{output.name}": output.matrix for output in outputs if output.matrix is not None}
    return {
        "blob": np.frombuffer(compiled.export_model().getvalue(), np.uint8),
        "names": np.array([output.name for output in outputs]),
        "sources": np.array([output.source for output in outputs]),
        **matrices,
    }


def _cut(whole: ov.Model) -> tuple[ov.Model, list[_Output]]:
    """The part of a graph that OpenVINO is to run, and how all outputs come from that part's.

    What is in float64 must be float32 numbers cast, and at most multiplied by a constant matrix, which is how exported
    graphs finish their counts. Raises GraphError where it is anything else.
    """
    sources: list[ov.Output] = []
    outputs = []
    for output in whole.outputs:
        source = output.node.input_value(0)
        matrix = None
        if output.element_type == ov.Type.f64:
            source, matrix = _weighed(source, output.any_name)
        if source not in sources:
            sources.append(source)
        outputs.append(_Output(output.any_name, sources.index(source), matrix))
    return ov.Model(sources, whole.get_parameters(), whole.get_friendly_name()), outputs


def _weighed(output: ov.Output, name: str) -> tuple[ov.Output, npt.NDArray[np.float64]]:
    """Float32 numbers and the matrix that they are multiplied by in float64."""
    node, matrix = output.node, None
    if node.get_type_name() == "MatMul" and node.input_value(1).node.get_type_name() == "Constant":
        matrix = node.input_value(1).node.data.astype(np.float64)
        node = node.input_value(0).node
    if node.get_type_name() != "Convert" or node.input_value(0).element_type != ov.Type.f32:
        raise GraphError(
            f"OpenVINO would lose count: {name!r} is not a float32 tensor cast to float64 and multiplied by a matrix; "
            "LMHT_PROVIDER=cpu serves it"
        )
    numbers = node.input_value(0)
    width = list(numbers.partial_shape)[-1].get_length()
    return numbers, np.eye(width) if matrix is None else matrix


def _signature(model: ov.Model) -> Signature:
    inputs, outputs = ({port.any_name: _tensor(port) for port in side} for side in (model.inputs, model.outputs))
    return Signature(inputs, outputs)


def _tensor(port: ov.Output) -> Tensor:
    """OpenVINO keeps no names of open axes: the first one is the batch's whatever it is called."""
    kind = port.element_type.get_type_name()
    axes: list[int | str] = ["?" if axis.is_dynamic else axis.get_length() for axis in port.partial_shape]
    if axes[:1] == ["?"]:
        axes[0] = BATCH
    return _KINDS.get(kind, kind), tuple(axes)


def _refuse_external_data(graph: bytes) -> None:
    """Raises GraphError where a graph's weights lie in other files, which OpenVINO would read wherever they are.

    Whoever names a file does so under the key "location". Where these letters stand for something else, such as in the
    name of a layer, ONNX Runtime tells, which takes no external data from a graph without a path.
    """
    if b"location" in graph:
        choose("cpu").open(graph, batch=1, threads=1)


def _reason(error: Exception) -> str:
    lines = (line.strip() for line in str(error).splitlines())
    return " ".join(line for line in lines if line and not line.startswith(_NOISE))[:500]
