"""An inference request: what its body says, with or without tensors as bytes behind the JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from models.bundle import InputSpec
from service import options
from service.handler import Instances, Pictures
from service.options import Options
from service.problems import InvalidOption, InvalidTensor, UnreadableBody
from service.transports.v2.tensors import BYTES, INPUT, InputTensor, checked_shape, images

OUTPUTS = ("logits", "probabilities", "spikes", "synops", "energy_nj")
# Outputs of which classes can be asked for.
SCORES = frozenset({"logits", "probabilities"})
# Triton's levels, of which 0 stands for the default.
PRIORITIES = {0: None, 1: "high", 2: "normal", 3: "low"}
# Options of the native API that a request parameter may be too.
_OPTIONS = ("timesteps", "deadline_ms", "min_confidence", "energy_profile", "priority")
# Of other servers' clients. They say nothing about a network without state and with one input.
_TOLERATED = frozenset({"content_type", "headers", "sequence_id", "sequence_start", "sequence_end"})
_MEMBERS = frozenset({"id", "parameters", "inputs", "outputs", "model_name", "model_version"})
_MAX_ID = 1024


@dataclass(frozen=True)
class WantedOutput:
    """An output that was asked for, as bytes or as JSON; its most probable classes where ``classes`` is not 0."""

    name: str
    binary: bool
    classes: int = 0


@dataclass(frozen=True)
class InferRequest:
    """What a body said. ``id`` is None where it named none."""

    id: str | None
    images: Pictures | Instances
    options: Options
    outputs: tuple[WantedOutput, ...]


def parse(body: bytes, content_type: str, json_length: int | None, spec: InputSpec, max_images: int) -> InferRequest:
    """Read a body.

    ``json_length`` is the header Inference-Header-Content-Length; without it the body is all JSON. With 0 the body is
    one tensor in the form that metadata declare, or by its media type ``image/*`` one picture, and all outputs come as
    bytes.

    Raises UnreadableBody, InvalidTensor, InvalidOption and, for pictures, TooManyImages.
    """
    length = _json_length(body, json_length)
    if length == 0:
        alone = images(_raw(body, content_type, spec), max_images)
        return InferRequest(None, alone, options.from_values({}), _all(binary=True))
    try:
        document = orjson.loads(memoryview(body)[:length])
    except orjson.JSONDecodeError as error:
        raise UnreadableBody(f"the request is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise UnreadableBody("the request must be a JSON object")
    if unknown := document.keys() - _MEMBERS:
        raise InvalidOption(f"{_names(unknown)}: unknown here; options stand under 'parameters'")
    identity = document.get("id")
    if identity is not None and not (isinstance(identity, str) and len(identity) <= _MAX_ID):
        raise InvalidOption(f"id: a text of at most {_MAX_ID} characters")
    parameters = _object(document.get("parameters"), "parameters")
    binary = _flag(parameters, "binary_data_output")
    return InferRequest(
        id=identity,
        images=images(_input(document.get("inputs"), memoryview(body)[length:]), max_images),
        options=_options(parameters),
        outputs=_outputs(document.get("outputs"), binary),
    )


def _json_length(body: bytes, header: int | None) -> int:
    if not body:
        raise UnreadableBody("the body is empty")
    length = len(body) if header is None else header
    if not 0 <= length <= len(body):
        raise UnreadableBody(f"Inference-Header-Content-Length is no length within the body's {len(body)} bytes")
    return length


def _raw(body: bytes, content_type: str, spec: InputSpec) -> InputTensor:
    if content_type.lower().startswith("image/"):
        return InputTensor(INPUT, BYTES, (1,), memoryview(len(body).to_bytes(4, "little") + body))
    image = 4 * spec.channels * spec.height * spec.width
    if len(body) % image:
        raise InvalidTensor(f"{len(body)} bytes are no whole images of FP32 {list(spec.shape)}, {image} bytes each")
    return InputTensor(INPUT, "FP32", (len(body) // image, *spec.shape), memoryview(body))


def _input(inputs: Any, binary: memoryview) -> InputTensor:
    """The one input. Raises InvalidTensor."""
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise InvalidTensor(f"'inputs' must be a list of one tensor, {INPUT!r}")
    tensor: dict[str, Any] = inputs[0]
    if tensor.get("name") != INPUT:
        raise InvalidTensor(f"the model's input is {INPUT!r}, not {str(tensor.get('name'))[:64]!r}")
    if unknown := tensor.keys() - {"name", "shape", "datatype", "parameters", "data"}:
        raise InvalidTensor(f"{_names(unknown)}: unknown in a tensor")
    parameters = _object(tensor.get("parameters"), "a tensor's parameters")
    _refuse_unknown(parameters, {"binary_data_size"} | _TOLERATED)
    size = parameters.get("binary_data_size")
    if (size is None) == ("data" not in tensor):
        raise InvalidTensor(f"{INPUT!r} needs either 'data' or the parameter 'binary_data_size'")
    datatype = tensor.get("datatype")
    if not isinstance(datatype, str):
        raise InvalidTensor(f"{INPUT!r} needs a 'datatype'")
    if size is not None and type(size) is not int:
        raise InvalidTensor("'binary_data_size' is a whole number of bytes")
    if (size or 0) != len(binary):
        raise InvalidTensor(f"{len(binary)} bytes follow the JSON, where the tensors have {size or 0}")
    content = tensor["data"] if size is None else binary
    return InputTensor(INPUT, datatype, checked_shape(tensor.get("shape")), content)


def _options(parameters: Mapping[str, Any]) -> Options:
    """The options among the parameters of a request. Raises InvalidOption."""
    _refuse_unknown(parameters, {*_OPTIONS, "timeout", "binary_data_output"} | _TOLERATED)
    values = {name: parameters[name] for name in _OPTIONS if name in parameters}
    priority, timeout = values.get("priority"), parameters.get("timeout")
    if type(priority) is int:
        if priority not in PRIORITIES:
            raise InvalidOption("priority: 1, 2 or 3, the highest first, or 0 for the default")
        values["priority"] = PRIORITIES[priority]
    if timeout is not None:
        if type(timeout) is not int or timeout < 0:
            raise InvalidOption("timeout: a whole number of microseconds")
        if "deadline_ms" in values:
            raise InvalidOption("timeout and deadline_ms are the same; give one of them")
        if timeout:
            values["deadline_ms"] = timeout / 1000
    return options.from_values(values)


def _outputs(value: Any, binary: bool) -> tuple[WantedOutput, ...]:
    """Raises InvalidTensor and InvalidOption."""
    if value is None or value == []:
        return _all(binary=binary)
    if not isinstance(value, list) or not all(isinstance(output, dict) for output in value):
        raise InvalidTensor("'outputs' must be a list of tensors, by their names")
    wanted = [_output(output, binary) for output in value]
    if len({output.name for output in wanted}) != len(wanted):
        raise InvalidTensor("an output is named twice")
    return tuple(wanted)


def _output(output: Mapping[str, Any], binary: bool) -> WantedOutput:
    name = output.get("name")
    if name not in OUTPUTS:
        raise InvalidTensor(f"the model's outputs are {', '.join(OUTPUTS)}, not {str(name)[:64]!r}")
    if unknown := output.keys() - {"name", "parameters"}:
        raise InvalidTensor(f"{_names(unknown)}: unknown in an output")
    parameters = _object(output.get("parameters"), "an output's parameters")
    _refuse_unknown(parameters, {"binary_data", "classification"} | _TOLERATED)
    classes = parameters.get("classification", 0)
    if type(classes) is not int or classes < 0:
        raise InvalidOption("classification: a whole number of classes")
    if classes and name not in SCORES:
        raise InvalidOption(f"classification: goes with {' and '.join(sorted(SCORES))}, not with {name!r}")
    return WantedOutput(name, _flag(parameters, "binary_data", binary), classes)


def _all(*, binary: bool) -> tuple[WantedOutput, ...]:
    return tuple(WantedOutput(name, binary) for name in OUTPUTS)


def _refuse_unknown(parameters: Mapping[str, Any], known: set[str] | frozenset[str]) -> None:
    unknown = {name for name in parameters if name not in known and not name.startswith("triton_")}
    if any(name.startswith("shared_memory") for name in unknown):
        raise InvalidOption("shared memory is not offered; send tensors in the body")
    if unknown:
        raise InvalidOption(f"{_names(unknown)}: unknown; there are {', '.join(sorted(known - _TOLERATED))}")


def _flag(parameters: Mapping[str, Any], name: str, default: bool = False) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InvalidOption(f"{name}: true or false")
    return value


def _object(value: Any, what: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidOption(f"{what} must be a JSON object")
    return value


def _names(names: set[str]) -> str:
    return ", ".join(repr(name[:64]) for name in sorted(names)[:5])
