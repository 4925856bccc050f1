"""A classification as an inference response: the outputs that were asked for, as JSON or as bytes behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from service.handler import Classification
from service.transports.endpoint import Reply
from service.transports.v2.requests import InferRequest, WantedOutput
from service.transports.v2.tensors import BYTES, to_elements

Array = npt.NDArray[Any]
_ARRAYS: dict[str, Callable[[Classification], Array]] = {
    "logits": lambda answer: answer.logits,
    "probabilities": lambda answer: answer.probabilities.astype(np.float32),
    "spikes": lambda answer: answer.spikes,
    "synops": lambda answer: answer.synops,
    "energy_nj": lambda answer: np.array([np.nan if e.snn_nj is None else e.snn_nj for e in answer.energies]),
}
_DATATYPES = {"f4": "FP32", "f8": "FP64"}


def respond(answer: Classification, request: InferRequest) -> Reply:
    """The response. An energy that its profile does not apply to is NaN, in JSON null."""
    outputs, behind = [], []
    for wanted in request.outputs:
        described, content = _output(answer, wanted)
        outputs.append(described)
        behind.append(content)
    document: dict[str, Any] = {
        "model_name": answer.served.name,
        "model_version": str(answer.served.version),
        "parameters": _parameters(answer),
        "outputs": outputs,
    }
    if request.id is not None:
        document["id"] = request.id
    json = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if not any(wanted.binary for wanted in request.outputs):
        return Reply(json)
    length = str(len(json)).encode("ascii")
    headers = ((b"content-type", b"application/octet-stream"), (b"inference-header-content-length", length))
    return Reply(b"".join([json, *behind]), headers)


def _parameters(answer: Classification) -> dict[str, int | float | str]:
    return {
        "timesteps": int(answer.timesteps.max()),
        "levels": answer.served.manifest.levels,
        "batch_size": answer.passes[0].batch_size,
        "energy_profile": answer.energies[0].profile,
        "engine": answer.served.engine.name,
        "decode_ms": round(answer.decode_s * 1000, 3),
        "queue_ms": round(answer.queue_s * 1000, 3),
        "compute_ms": round(answer.compute_s * 1000, 3),
        "total_ms": round(answer.total_s * 1000, 3),
    }


def _output(answer: Classification, wanted: WantedOutput) -> tuple[dict[str, Any], bytes]:
    """An output's description, with its data unless they are bytes, and those bytes."""
    array = _ARRAYS[wanted.name](answer)
    data: Any
    if wanted.classes:
        texts = _classes(array, answer.served.manifest.classes, wanted.classes)
        datatype, shape = BYTES, [len(array), min(wanted.classes, array.shape[1])]
        data, content = texts, to_elements(texts) if wanted.binary else b""
    else:
        datatype, shape = _DATATYPES[array.dtype.str[1:]], list(array.shape)
        data = np.ascontiguousarray(array).reshape(-1)
        content = data.astype(data.dtype.newbyteorder("<"), copy=False).tobytes() if wanted.binary else b""
    described: dict[str, Any] = {"name": wanted.name, "datatype": datatype, "shape": shape}
    if wanted.binary:
        described["parameters"] = {"binary_data_size": len(content)}
    else:
        described["data"] = data
    return described, content


def _classes(scores: Array, labels: tuple[str, ...], count: int) -> list[str]:
    """The best classes of each row of scores [n, classes], best first, as Triton writes them: score:index:label."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return [
        f"{score:f}:{index}:{labels[index]}"
        for row, best in zip(scores, order.tolist(), strict=True)
        for index, score in zip(best, row[best].tolist(), strict=True)
    ]
