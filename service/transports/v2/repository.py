"""The model repository: what is in it, loading and unloading. Changing asks for the admin token where there is one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import orjson
from fastapi import APIRouter, Request
from pydantic import BaseModel, ValidationError

from service import registry
from service.fleet import Fleet
from service.problems import (
    CannotLoad,
    InvalidOption,
    NotReady,
    UnknownModel,
    UnknownVersion,
    UnreadableBody,
)
from service.registry import Registry, Status
from service.schemas import RepositoryEntry
from service.transports.access import Access
from service.transports.bodies import ClientGone, read_body
from service.transports.endpoint import version_number
from service.transports.openapi import TOKEN
from service.transports.v2 import openapi, schemas

Body = TypeVar("Body", bound=BaseModel)
_MAX_BYTES = 64 * 1024
_TIMEOUT_S = 10.0


def router(models: Registry, fleet: Fleet, access: Access) -> APIRouter:
    """The routes."""
    api = APIRouter(prefix="/v2/repository", tags=["Open Inference Protocol: model repository"])

    @api.post(
        "/index",
        summary="Every model in the repositories, and its state",
        responses=openapi.answers("index", 400, 408, 413),
        openapi_extra=openapi.optional_body(schemas.IndexRequest),
    )
    async def index(request: Request) -> list[RepositoryEntry]:
        wanted = await _body(request, schemas.IndexRequest)
        found = _entries(await models.index())
        return [entry for entry in found if entry.state == "READY" or not wanted.ready]

    @api.post(
        "/models/{model}/load",
        summary="Load a model, or bring it up to date",
        description="New and changed versions are opened and warmed up before those that they replace are let go. "
        "Answers once that is so.",
        responses=openapi.answers("changed", 400, 401, 403, 404, 408, 413, 503),
        openapi_extra={"security": TOKEN, **openapi.optional_body(schemas.ChangeRequest)},
    )
    async def load(model: str, request: Request) -> list[RepositoryEntry]:
        return await _change(fleet.load, model, request, access)

    @api.post(
        "/models/{model}/unload",
        summary="Unload a model, or one version of it",
        description="It takes no new requests; answers once those under way are answered and it is closed.",
        responses=openapi.answers("changed", 400, 401, 403, 404, 408, 413, 503),
        openapi_extra={"security": TOKEN, **openapi.optional_body(schemas.ChangeRequest)},
    )
    async def unload(model: str, request: Request) -> list[RepositoryEntry]:
        return await _change(fleet.unload, model, request, access)

    return api


async def _change(
    change: Callable[[str, int | None], Awaitable[list[Status]]], model: str, request: Request, access: Access
) -> list[RepositoryEntry]:
    access.may_change(request.scope)
    version = _version(await _body(request, schemas.ChangeRequest))
    try:
        return _entries(await change(model, version))
    except registry.UnknownModel as error:
        raise UnknownModel(str(error)) from error
    except registry.UnknownVersion as error:
        raise UnknownVersion(str(error)) from error
    except registry.LoadFailed as error:
        raise CannotLoad(str(error)) from error
    except registry.NotReady as error:
        raise NotReady(str(error)) from error


async def _body(request: Request, kind: type[Body]) -> Body:
    """The body, which may be empty; it is JSON whatever its media type, as the protocol's clients send none.

    Raises BodyTooLarge, RequestTimeout, UnreadableBody and InvalidOption.
    """
    try:
        content = await read_body(request.receive, None, _MAX_BYTES, _TIMEOUT_S)
    except ClientGone as error:  # who is not there to read this
        raise UnreadableBody("the body has no end") from error
    if not content:
        return kind()
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise UnreadableBody(f"the body is not JSON: {error}") from error
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        items = error.errors(include_url=False)
        raise InvalidOption(
            "; ".join(f"{'.'.join(map(str, i['loc'])) or 'body'}: {i['msg'][:1].lower()}{i['msg'][1:]}" for i in items)
        ) from error


def _version(change: schemas.ChangeRequest) -> int | None:
    value = change.parameters.version
    return value if value is None else version_number(str(value))


def _entries(found: Iterable[Status]) -> list[RepositoryEntry]:
    return [RepositoryEntry(name=s.name, version=s.version, state=s.state, reason=s.reason) for s in found]
