"""Each method of the API as a `Call`: what is sent, and how the answer is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import BaseModel, TypeAdapter

from service.client._options import ClassifyOptions, texts, values
from service.schemas import Classification, ModelCard, ModelList, Problem, Ready, RepositoryEntry

Answer = TypeVar("Answer")
M = TypeVar("M", bound=BaseModel)
_ENTRIES = TypeAdapter(list[RepositoryEntry])
_JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Call(Generic[Answer]):
    """One request, however often it is sent.

    Args:
        reads: how a body is read, by the statuses that are no errors; raises pydantic's ValidationError.
        body: httpx's arguments for the request's body, which depend on the milliseconds left of the deadline.
        deadline_ms: see `ClassifyOptions`.
        credential: what the server may ask for.
        repeatable: whether the server may get it twice.
    """

    method: Literal["GET", "POST"]
    path: str
    reads: Mapping[int, Callable[[bytes], Answer]]
    body: Callable[[float | None], dict[str, Any]] = lambda deadline_ms: {}
    deadline_ms: float | None = None
    credential: Literal["key", "token"] | None = None
    repeatable: bool = True


def ready() -> Call[bool]:
    """`GET /readyz`, where 503 is an answer too."""

    def no(body: bytes) -> bool:
        Problem.model_validate_json(body)
        return False

    return Call("GET", "/readyz", {200: lambda body: _of(Ready)(body).status == "ready", 503: no})


def models() -> Call[ModelList]:
    """`GET /v1/models`."""
    return Call("GET", "/v1/models", {200: _of(ModelList)}, credential="key")


def card(model: str, version: int | None) -> Call[ModelCard]:
    """`GET /v1/models/{model}`, with or without a version."""
    return Call("GET", _address(model, version), {200: _of(ModelCard)}, credential="key")


def classify(
    model: str, images: Sequence[bytes], version: int | None, options: ClassifyOptions
) -> Call[Classification]:
    """`POST …/classify` with encoded pictures, as a form. Raises ValueError for none."""
    if not images:
        raise ValueError("there is no picture to classify")
    said = values(options)
    files = [("image", ("image", image)) for image in images]
    return _classify(model, version, said, lambda said: {"files": files, "data": texts(said)})


def classify_numbers(
    model: str, instances: npt.ArrayLike, version: int | None, options: ClassifyOptions
) -> Call[Classification]:
    """`POST …/classify` with float32 [n, C, H, W], as JSON."""
    said = values(options)
    array = np.ascontiguousarray(instances, dtype=np.float32)
    return _classify(
        model,
        version,
        said,
        lambda said: {
            "content": orjson.dumps({"instances": array, **said}, option=orjson.OPT_SERIALIZE_NUMPY),
            "headers": _JSON,
        },
    )


def index() -> Call[list[RepositoryEntry]]:
    """`POST /v2/repository/index`."""
    return Call("POST", "/v2/repository/index", {200: _entries}, lambda _: {"json": {}})


def change(what: Literal["load", "unload"], model: str, version: int | None) -> Call[list[RepositoryEntry]]:
    """`POST /v2/repository/models/{model}/load` or ``unload``."""
    document = {} if version is None else {"parameters": {"version": version}}
    return Call(
        "POST",
        f"/v2/repository/models/{_quoted(model)}/{what}",
        {200: _entries},
        lambda _: {"json": document},
        credential="token",
        repeatable=False,
    )


def _classify(
    model: str, version: int | None, said: dict[str, Any], body: Callable[[dict[str, Any]], dict[str, Any]]
) -> Call[Classification]:
    def with_deadline(left_ms: float | None) -> dict[str, Any]:
        return body(said if left_ms is None else said | {"deadline_ms": left_ms})

    return Call(
        "POST",
        f"{_address(model, version)}/classify",
        {200: _of(Classification)},
        with_deadline,
        deadline_ms=said.get("deadline_ms"),
        credential="key",
    )


def _of(schema: type[M]) -> Callable[[bytes], M]:
    """Reads an answer. What a later server adds to it is passed over."""
    return lambda body: schema.model_validate_json(body, extra="ignore")


def _entries(body: bytes) -> list[RepositoryEntry]:
    return _ENTRIES.validate_json(body, extra="ignore")


def _address(model: str, version: int | None) -> str:
    return f"/v1/models/{_quoted(model)}" + ("" if version is None else f"/versions/{version}")


def _quoted(name: str) -> str:
    # Dots alone would be taken for steps in the path.
    return quote(name, safe="") if name.strip(".") else name.replace(".", "%2E")
