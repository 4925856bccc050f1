"""The OpenAPI description: what FastAPI knows of its routes, and what bare ASGI endpoints say of themselves.

The parameters of classification come from `service.options.Options`, its answers from `service.schemas`; nothing is
written down twice. Every error of the native API is described as ``application/problem+json``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from service import schemas
from service.options import Options
from service.pictures import MEDIA_TYPES
from service.transports.errors import MEDIA_TYPE
from service.transports.examples import EXAMPLES, SEVEN_PNG

_REF = "#/components/schemas/{model}"
_ERRORS = {
    400: "The body or a picture cannot be read, or a picture is an animation.",
    401: "A valid API key is needed.",
    404: "The model or the version is unknown.",
    408: "The body did not arrive in time.",
    413: "The body, the number of images or their pixels exceed what is taken in one request.",
    415: "A body of this kind is not read here.",
    422: "An option is unknown or out of range, no budget could meet the deadline, or `instances` do not fit the "
    "model's input.",
    429: "The work does not fit the queue now, or could not be done before its deadline; or as many requests, or bytes "
    "of them, are under way as are taken at once.",
    500: "The server's fault; the log has the cause under the request's id.",
    503: "Not ready: still loading, nothing could be loaded, an engine hangs, or shutting down.",
    504: "The deadline has passed.",
}
_PARAMETERS = {
    "model": ("A served model's name.", "mnist"),
    "version": ("A whole number.", "1"),
}
Document = dict[str, Any]
# Both may be asked for: by LMHT_API_KEYS_FILE and by LMHT_ADMIN_TOKEN.
SECURITY: Document = {
    "ApiKey": {"type": "http", "scheme": "bearer", "description": "A key, where the server asks for one."},
    "AdminToken": {"type": "http", "scheme": "bearer", "description": "The token, where the server has one."},
}
KEY: list[Document] = [{}, {"ApiKey": []}]
TOKEN: list[Document] = [{}, {"AdminToken": []}]
# Of an answer to a request to classify.
HEADERS: Document = {
    "X-Request-ID": {"schema": {"type": "string"}, "description": "The request's id."},
    "Traceparent": {
        "schema": {"type": "string"},
        "description": "This server's span in the trace of the request's own `traceparent` (W3C Trace Context).",
    },
}
# Describes the operation at an address, given the parameters in it.
Describe = Callable[[str, list[Document]], Document]


def answers(example: str, *codes: int) -> dict[int | str, Document]:
    """The responses of a route for FastAPI: a worked example of success, and these errors."""
    media_type = "text/plain" if example == "metrics" else "application/json"
    success: Document = {"content": {media_type: {"example": EXAMPLES[example]}}}
    return {200: success, **{code: _problem(code) for code in codes}}


def install(app: FastAPI, endpoints: Mapping[str, Describe]) -> None:
    """Let the app describe itself so, made once and kept. ``endpoints`` are those that FastAPI does not know."""

    def describe() -> Document:
        if app.openapi_schema is None:
            app.openapi_schema = _describe(app, endpoints)
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]  # FastAPI's documented way


def _describe(app: FastAPI, endpoints: Mapping[str, Describe]) -> Document:
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=app.description,
        routes=app.routes,
        tags=app.openapi_tags,
    )
    paths, components = document["paths"], document.setdefault("components", {}).setdefault("schemas", {})
    for path, operations in paths.items():
        for operation in operations.values():
            _tidy(path, operation)
    for name in ("HTTPValidationError", "ValidationError"):
        components.pop(name, None)
    for path, describe in endpoints.items():
        paths[path] = {"post": describe(path, _in_address(path))}
    shapes = models_json_schema(
        [(schemas.Classification, "serialization"), (schemas.Problem, "serialization")], ref_template=_REF
    )[1]
    components.update(shapes["$defs"])
    document["components"]["securitySchemes"] = SECURITY
    document["paths"] = dict(sorted(paths.items()))
    return document


def _tidy(path: str, operation: Document) -> None:
    """Of what FastAPI adds by itself: its own validation error, which no route here gives; and explain parameters."""
    if MEDIA_TYPE not in operation["responses"].get("422", {}).get("content", {MEDIA_TYPE: None}):
        del operation["responses"]["422"]
    if parameters := _in_address(path):
        operation["parameters"] = parameters


def _in_address(path: str) -> list[Document]:
    """The parameters in an address."""
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
            "description": text,
            "example": example,
        }
        for name, (text, example) in _PARAMETERS.items()
        if f"{{{name}}}" in path
    ]


def classify(path: str, parameters: list[Document]) -> Document:
    """Classification at one of its addresses."""
    versioned = "{version}" in path
    return {
        "tags": ["classification"],
        "summary": "Classify pictures" + (" with a version" if versioned else ""),
        "description": "One raw picture, a form with pictures, or JSON with pictures or numbers. Options stand in the "
        "query, in the form's fields, or beside the images in JSON.",
        "operationId": "classify_version" if versioned else "classify",
        "security": KEY,
        "parameters": [*parameters, *_query()],
        "requestBody": {"required": True, "content": _bodies()},
        "responses": {
            "200": {
                "description": "The classes, their spikes and energy.",
                "headers": HEADERS,
                "content": {
                    "application/json": {
                        "schema": {"$ref": _REF.format(model="Classification")},
                        "example": EXAMPLES["classify"],
                    }
                },
            },
            **{str(code): _problem(code) for code in _ERRORS},
        },
    }


def _options() -> dict[str, Document]:
    """Each option's schema, without the null that stands for not given."""
    properties: dict[str, Document] = copy.deepcopy(Options.model_json_schema()["properties"])
    for schema in properties.values():
        schema.pop("title", None)
        if schema.get("default", ...) is None:
            del schema["default"]
        choices = [choice for choice in schema.pop("anyOf", []) if choice.get("type") != "null"]
        schema |= choices[0] if len(choices) == 1 else {"anyOf": choices} if choices else {}
    return properties


def _query() -> list[Document]:
    parameters = []
    for name, schema in _options().items():
        parameter: Document = {
            "name": name,
            "in": "query",
            "required": False,
            "description": schema.pop("description"),
            "schema": schema,
        }
        if schema.get("type") == "array":
            parameter |= {"style": "form", "explode": True}
        parameters.append(parameter)
    return parameters


def _bodies() -> Document:
    options = _options()
    raw = {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in MEDIA_TYPES}
    form = {
        "type": "object",
        "required": ["image"],
        "additionalProperties": False,
        "properties": {
            "image": {
                "type": "array",
                "minItems": 1,
                "items": {"type": "string", "format": "binary"},
                "description": "One picture a part; the field may be repeated.",
            },
            **options,
        },
    }
    images = {
        "type": "array",
        "minItems": 1,
        "items": {"type": "string", "contentEncoding": "base64"},
        "description": "Pictures in base64.",
    }
    # Written out to the depth of [n, C, H, W]; the sizes depend on the model.
    numbers: Document = {"type": "number"}
    for _ in range(4):
        numbers = {"type": "array", "minItems": 1, "items": numbers}
    numbers["description"] = "Numbers of shape [n, channels, height, width] in the model's value range."
    json = {
        "oneOf": [
            {
                "type": "object",
                "title": title,
                "required": [name],
                "additionalProperties": False,
                "properties": {name: schema, **options},
            }
            for title, name, schema in (("Pictures", "images", images), ("Numbers", "instances", numbers))
        ]
    }
    return {
        **raw,
        "multipart/form-data": {"schema": form, "encoding": {"image": {"contentType": ", ".join(MEDIA_TYPES)}}},
        "application/json": {"schema": json, "example": {"images": [SEVEN_PNG], "timesteps": 4, "top_k": 3}},
    }


def _problem(code: int) -> Document:
    described: Document = {
        "description": _ERRORS[code],
        "content": {
            MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}, "example": EXAMPLES[f"problem-{code}"]}
        },
    }
    if code == 429:
        described["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}}
    return described
