"""Requests and answers of the Open Inference Protocol, put together and taken apart by hand, for tests."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from models import energy
from models.bundle import FloatArray
from models.energy import DEFAULT_PROFILE
from tests import tiny
from tests.serving import RunningApp

Array = npt.NDArray[Any]
INFER = "/v2/models/tiny/infer"
OUTPUTS = ("logits", "probabilities", "spikes", "synops", "energy_nj")
LENGTH = "inference-header-content-length"
NUMBERS: dict[str, str] = {"FP32": "<f4", "FP64": "<f8"}


@dataclass(frozen=True)
class Request:
    """A body and the headers that go with it."""

    content: bytes
    headers: dict[str, str]


def elements(files: Sequence[bytes]) -> bytes:
    """A BYTES tensor's bytes."""
    return b"".join(struct.pack("<I", len(file)) + file for file in files)


def in_base64(files: Sequence[bytes]) -> list[str]:
    return [base64.b64encode(file).decode("ascii") for file in files]


def as_json(datatype: str, shape: Sequence[int], data: Any, **members: Any) -> Request:
    """A request that is JSON throughout; ``members`` stand beside the inputs."""
    tensor = {"name": "images", "shape": list(shape), "datatype": datatype, "data": data}
    return Request(json.dumps({"inputs": [tensor], **members}).encode(), {"content-type": "application/json"})


def as_bytes(datatype: str, shape: Sequence[int], content: bytes, **members: Any) -> Request:
    """A request whose tensor follows the JSON."""
    parameters = {"binary_data_size": len(content)}
    tensor = {"name": "images", "shape": list(shape), "datatype": datatype, "parameters": parameters}
    head = json.dumps({"inputs": [tensor], **members}).encode()
    return Request(head + content, {"content-type": "application/octet-stream", LENGTH: str(len(head))})


def fp32(images: FloatArray, **members: Any) -> Request:
    """Images as FP32 in bytes."""
    return as_bytes("FP32", images.shape, images.astype("<f4").tobytes(), **members)


def post(server: RunningApp, request: Request, path: str = INFER) -> httpx.Response:
    return server.post(path, content=request.content, headers=request.headers)


@dataclass(frozen=True)
class Answer:
    """What an answer says, and its outputs as arrays: numbers, or texts for BYTES."""

    document: dict[str, Any]
    outputs: dict[str, Array]


def ask(server: RunningApp, request: Request, path: str = INFER) -> Answer:
    """The answer to a request that gets one."""
    return read(post(server, request, path))


def read(response: httpx.Response) -> Answer:
    """Take an answer apart, and check what holds of each: its form, and that nothing is left over."""
    assert response.status_code == 200, response.text
    content = response.content
    length = int(response.headers.get(LENGTH, len(content)))
    document = json.loads(content[:length])
    kind = "application/octet-stream" if LENGTH in response.headers else "application/json"
    assert response.headers["content-type"] == kind
    at, outputs = length, {}
    for output in document["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            values = output["data"]
            assert len(values) == math.prod(output["shape"])
        else:
            assert "data" not in output
            assert size == len(content[at : at + size])
            values = _values(output["datatype"], content[at : at + size])
            at += size
        kind = NUMBERS.get(output["datatype"], "U")
        outputs[output["name"]] = np.array(values, kind).reshape(output["shape"])
    assert at == len(content)
    return Answer(document, outputs)


def _values(datatype: str, content: bytes) -> Array | list[str]:
    if datatype != "BYTES":
        return np.frombuffer(content, NUMBERS[datatype])
    found = []
    while content:
        (length,) = struct.unpack_from("<I", content)
        found.append(content[4 : 4 + length].decode())
        content = content[4 + length :]
    return found


def expected(images: FloatArray, timesteps: int, profile: str = DEFAULT_PROFILE) -> dict[str, Array]:
    """What `tiny` answers, by its equations."""
    answers, manifest = tiny.reference(images, timesteps), tiny.manifest()
    temperature = manifest.budgets[tiny.BUDGETS.index(timesteps)].temperature
    spent = [
        energy.estimate(manifest, timesteps, spikes, synops, profile).snn_nj
        for spikes, synops in zip(answers.spikes, answers.synops, strict=True)
    ]
    return {
        "logits": answers.logits,
        "probabilities": softmax(answers.logits.astype(np.float64) / temperature, axis=1),
        "spikes": answers.spikes,
        "synops": answers.synops,
        "energy_nj": np.array(spent, np.float64),
    }


def check(outputs: dict[str, Array], wanted: dict[str, Array]) -> None:
    """Hold outputs against what is expected, of which they may be a part; probabilities are rounded to float32."""
    for name, values in outputs.items():
        assert values.shape == wanted[name].shape
        if name == "probabilities":
            np.testing.assert_allclose(values, wanted[name], rtol=1e-6)
        else:
            np.testing.assert_array_equal(values, wanted[name], err_msg=name)


def error(response: httpx.Response, status: int) -> str:
    """An error's text; it has nothing else."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    document = response.json()
    assert list(document) == ["error"]
    text: str = document["error"]
    assert len(text) > 10
    return text
