"""`/metrics`."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response

from service.fleet import Fleet
from service.transports import openapi


def router(fleet: Fleet) -> APIRouter:
    """`/metrics`, in Prometheus's text form or as OpenMetrics, by the Accept header."""
    api = APIRouter(tags=["health"])

    @api.get(
        "/metrics",
        summary="Prometheus metrics",
        response_class=PlainTextResponse,
        responses=openapi.answers("metrics"),
    )
    async def exposition(request: Request) -> Response:
        content, media_type = await fleet.exposition(request.headers.get("accept", ""))
        return Response(content, headers={"content-type": media_type})

    return api
