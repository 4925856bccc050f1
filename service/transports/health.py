"""Probes: is the process alive, and may it be sent requests."""

from __future__ import annotations

from fastapi import APIRouter

from service.fleet import Fleet
from service.registry import Registry
from service.schemas import Alive, Ready
from service.transports import openapi


def router(fleet: Fleet, models: Registry) -> APIRouter:
    """`/livez` and `/readyz`."""
    api = APIRouter(tags=["health"])

    @api.get("/livez", summary="Is the process alive?", responses=openapi.answers("livez"))
    async def livez() -> Alive:
        return Alive()

    @api.get("/readyz", summary="May it be sent requests?", responses=openapi.answers("readyz", 503))
    async def readyz() -> Ready:
        await fleet.check_ready()
        return Ready(models=[f"{served.name}/{served.version}" for served in models.models()], failed=models.failures)

    return api
