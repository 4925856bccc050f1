"""Errors as the protocol has them: ``{"error": "…"}``, and 400 for whatever is wrong with a request."""

from __future__ import annotations

import orjson
from starlette.responses import Response

from service.problems import BadRequest, Problem, Unprocessable
from service.transports import errors

PREFIX = "/v2"


def status(problem: Problem) -> int:
    """The protocol knows no 422: a request that cannot be carried out is a bad one."""
    return BadRequest.status if problem.status == Unprocessable.status else problem.status


def response(problem: Problem, identity: str) -> Response:
    """The problem as an answer."""
    body = orjson.dumps({"error": problem.detail})
    return Response(body, status(problem), errors.headers(problem, identity), "application/json")
