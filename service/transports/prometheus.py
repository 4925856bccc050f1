"""`/metrics`."""

from __future__ import annotations

import asyncio
import gzip

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client.exposition import gzip_accepted

from service.fleet import Fleet
from service.transports import openapi

# A twelfth of the size in half a millisecond; the best level takes ten times as long for a fifth less.
_LEVEL = 1


def router(fleet: Fleet) -> APIRouter:
    """`/metrics`, as text or as OpenMetrics by the Accept header; compressed where that is accepted."""
    api = APIRouter(tags=["health"])

    @api.get(
        "/metrics",
        summary="Prometheus metrics",
        response_class=PlainTextResponse,
        responses=openapi.answers("metrics"),
    )
    async def exposition(request: Request) -> Response:
        content, media_type = await fleet.exposition(request.headers.get("accept", ""))
        headers = {"content-type": media_type, "vary": "Accept, Accept-Encoding"}
        if gzip_accepted(request.headers.get("accept-encoding", "")):
            content = await asyncio.to_thread(gzip.compress, content, _LEVEL)
            headers["content-encoding"] = "gzip"
        return Response(content, headers=headers)

    return api
