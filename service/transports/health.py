"""Probes: is the process alive, and may it be sent requests."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter

from service.problems import NotReady
from service.registry import Registry
from service.schemas import Alive, Ready
from service.transports import openapi


def router(models: Registry, trouble: Callable[[], str | None]) -> APIRouter:
    """`/livez` and `/readyz`; ``trouble`` says why the server is not ready whatever its models, None if it is."""
    api = APIRouter(tags=["health"])

    @api.get("/livez", summary="Is the process alive?", responses=openapi.answers("livez"))
    async def livez() -> Alive:
        return Alive()

    @api.get("/readyz", summary="May it be sent requests?", responses=openapi.answers("readyz", 503))
    async def readyz() -> Ready:
        failed = dict(models.failures)
        if reason := trouble():
            raise NotReady(reason, extensions={"failed": failed})
        if not models.loaded:
            raise NotReady("models are still being loaded", extensions={"failed": failed}, retry_after_s=1)
        if not models.ready:
            raise NotReady("no model could be loaded", extensions={"failed": failed})
        return Ready(models=[f"{served.name}/{served.version}" for served in models.models()], failed=failed)

    return api
