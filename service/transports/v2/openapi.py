"""How OpenAPI describes the protocol: its errors everywhere, and inference, which is a bare ASGI endpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from service.options import Options
from service.transports.examples import SEVEN_PNG
from service.transports.openapi import HEADERS, KEY
from service.transports.v2.requests import OUTPUTS, PRIORITIES
from service.transports.v2.schemas import Error

Document = dict[str, Any]
JSON, BINARY = "application/json", "application/octet-stream"
_ERRORS = {
    400: ("The request is not as the protocol or the model has it.", "the model's input is 'images', not 'input'"),
    401: ("A valid key or token is needed.", "a valid API key is needed"),
    403: ("Not from here.", "what is served can only be changed from the server's own machine"),
    404: ("The model or the version is unknown.", "there is no model 'minst'"),
    408: ("The body did not arrive in time.", "the body was not here after 60 s"),
    413: ("More than is taken in one request.", "the body has more than 16777216 bytes"),
    415: ("A body that is encoded in a way not read here.", "a body encoded as 'br' is not read here"),
    429: ("The work does not fit now; `Retry-After` says when to come again.", "the queue has no room for 8 images"),
    500: ("The server's fault.", "the request failed through no fault of yours"),
    503: ("Not ready: loading, failed or shutting down.", "models are still being loaded"),
    504: ("The deadline has passed.", "the deadline of 5 ms has passed"),
}
_INFER_ERRORS = (400, 401, 404, 408, 413, 415, 429, 500, 503, 504)


# A server's own answers for the bundled models, recorded; the tests hold them against what it answers now.
EXAMPLES: dict[str, Any] = json.loads(Path(__file__).with_name("examples.json").read_text(encoding="utf-8"))
EXAMPLE_REQUEST: Document = {
    "id": "example-1",
    "parameters": {"timesteps": 4},
    "inputs": [{"name": "images", "datatype": "BYTES", "shape": [1], "data": [SEVEN_PNG]}],
    "outputs": [{"name": "probabilities", "parameters": {"classification": 3}}, {"name": "energy_nj"}],
}


def answers(example: str, *codes: int) -> dict[int | str, Document]:
    """The responses of a route for FastAPI: a worked example of success, and these errors."""
    return {200: {"content": {JSON: {"example": EXAMPLES[example]}}}, **{code: _error(code) for code in codes}}


def optional_body(kind: type[BaseModel]) -> Document:
    """A route's body that may be left out, which FastAPI is not told of since it would insist on a media type."""
    schema = kind.model_json_schema()
    definitions = schema.pop("$defs", {})
    for property_schema in schema.get("properties", {}).values():
        if name := property_schema.pop("$ref", "").rpartition("/")[2]:
            property_schema |= definitions[name]
    return {"requestBody": {"required": False, "content": {JSON: {"schema": schema}}}}


def infer(path: str, parameters: list[Document]) -> Document:
    """The operation at one of the addresses; ``parameters`` are those in the address."""
    header = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "required": False,
        "schema": {"type": "integer", "minimum": 0},
        "description": "Where tensors follow as bytes: the length of the JSON before them. 0: the body is one tensor "
        "in the form that the metadata declare, or by its media type `image/*` one picture.",
    }
    return {
        "tags": ["Open Inference Protocol"],
        "summary": "Infer" + (" with a version" if "{version}" in path else ""),
        "description": "Images as FP32 or UINT8 [n, C, H, W], or encoded pictures as BYTES [n], in JSON or as bytes.",
        "operationId": "infer_version" if "{version}" in path else "infer",
        "security": KEY,
        "parameters": [*parameters, header],
        "requestBody": {
            "required": True,
            "content": {
                JSON: {"schema": _request(), "example": EXAMPLE_REQUEST},
                BINARY: {"schema": {"type": "string", "format": "binary"}},
            },
        },
        "responses": {
            "200": {
                "description": "The outputs that were asked for.",
                "headers": HEADERS,
                "content": {
                    JSON: {"schema": _response(), "example": EXAMPLES["infer"]},
                    BINARY: {"schema": {"type": "string", "format": "binary"}},
                },
            },
            **{str(code): _error(code) for code in _INFER_ERRORS},
        },
    }


_SCALAR = {"anyOf": [{"type": "boolean"}, {"type": "number"}, {"type": "string"}]}
_SCALARS = {"type": "object", "additionalProperties": _SCALAR}


def _parameters() -> Document:
    options = Options.model_json_schema()["properties"]
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            **{name: options[name] for name in ("timesteps", "deadline_ms", "min_confidence", "energy_profile")},
            "priority": {
                "enum": [*PRIORITIES, *(name for name in PRIORITIES.values() if name)],
                "description": "1 is the highest, 0 the default, as Triton has it; or by name.",
            },
            "timeout": {
                "type": "integer",
                "minimum": 0,
                "maximum": 3_600_000_000,
                "description": "Like `deadline_ms`, in microseconds; 0 for none.",
            },
            "binary_data_output": {"type": "boolean", "description": "Outputs as bytes unless said otherwise."},
        },
    }


def _request() -> Document:
    tensor = {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "additionalProperties": False,
        "properties": {
            "name": {"const": "images"},
            "datatype": {"enum": ["FP32", "UINT8", "BYTES"]},
            "shape": {"type": "array", "minItems": 1, "maxItems": 8, "items": {"type": "integer", "minimum": 1}},
            "data": {"type": "array", "description": "Nested or flat numbers; pictures in base64 for BYTES."},
        },
    }
    output = {
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": {
            "name": {"enum": list(OUTPUTS)},
            "parameters": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "binary_data": {"type": "boolean"},
                    "classification": {
                        "type": "integer",
                        "minimum": 0,
                        "description": "So many of the best classes, of logits or probabilities: `score:index:label`.",
                    },
                },
            },
        },
    }
    return {
        "type": "object",
        "required": ["inputs"],
        "additionalProperties": False,
        "properties": {
            "id": {"type": "string", "maxLength": 1024},
            "parameters": _parameters(),
            "inputs": {"type": "array", "minItems": 1, "maxItems": 1, "items": tensor},
            "outputs": {"type": "array", "items": output},
        },
    }


def _response() -> Document:
    tensor = {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": {"enum": list(OUTPUTS)},
            "datatype": {"enum": ["FP32", "FP64", "BYTES"]},
            "shape": {"type": "array", "items": {"type": "integer"}},
            "data": {"type": "array"},
            "parameters": _SCALARS,
        },
    }
    return {
        "type": "object",
        "required": ["model_name", "model_version", "parameters", "outputs"],
        "properties": {
            "id": {"type": "string"},
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "parameters": _SCALARS,
            "outputs": {"type": "array", "items": tensor},
        },
    }


def _error(code: int) -> Document:
    description, example = _ERRORS[code]
    described: Document = {
        "description": description,
        "content": {JSON: {"schema": Error.model_json_schema(), "example": {"error": example}}},
    }
    if code == 429:
        described["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}}
    return described
