"""`POST /v2/models/{model}/infer`."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from service.problems import Problem
from service.transports import errors
from service.transports.bodies import QUICK_BYTES, Head
from service.transports.endpoint import Endpoint, Exchange, Reply
from service.transports.v2 import openapi, problems
from service.transports.v2.answers import respond
from service.transports.v2.requests import InferRequest, parse


class InferEndpoint(Endpoint):
    """`POST /v2/models/{model}/infer`, with or without a version."""

    paths = ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer")

    async def reply(self, exchange: Exchange, head: Head, body: bytes) -> Reply:
        """See `Endpoint`."""
        spec = self.handler.find(exchange.model, exchange.version).manifest.input

        def work() -> InferRequest:
            return parse(body, head.content_type, head.json_length, spec, self._settings.max_images)

        # JSON takes long to read; the bytes behind it are not even copied.
        json_bytes = len(body) if head.json_length is None else head.json_length
        request = work() if json_bytes <= QUICK_BYTES else await self.handler.in_thread(work)
        if request.id is not None and errors.is_identity(request.id):
            exchange.id = request.id
        return respond(await self.classify(exchange, request.images, request.options), request)

    def problem(self, problem: Problem, identity: str) -> Response:
        """See `Endpoint`."""
        return problems.response(problem, identity)

    def describe(self, path: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
        """See `Endpoint`."""
        return openapi.infer(path, parameters)
