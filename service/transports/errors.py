"""How problems leave, whatever raised them: as ``application/problem+json`` (RFC 9457), or as another API has them."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service.problems import InternalError, MethodNotAllowed, NotFound, OtherProblem, Problem, Unprocessable

MEDIA_TYPE = "application/problem+json"
# Where in its scope a request's id is that was found out already.
ID = "lmht.id"
Form = Callable[[Problem, str], Response]
_ID = re.compile(r"[!-~]{1,128}")


def is_identity(text: str) -> bool:
    """Whether a text can name a request in headers and in the log."""
    return _ID.fullmatch(text) is not None


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The client's X-Request-ID where it is 1 to 128 visible ASCII characters, else a new id."""
    for name, value in headers:
        if name == b"x-request-id" and is_identity(text := value.decode("latin-1")):
            return text
    return secrets.token_hex(8)


def as_problem(error: Exception, identity: str) -> Problem:
    """The problem that a client is told of; what was not foreseen is an InternalError, and the caller logs it."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        return _from_http(error)
    if isinstance(error, RequestValidationError):
        return Unprocessable("; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()))
    return InternalError(f"the request failed through no fault of yours; the log has the cause under {identity}")


def headers(problem: Problem, identity: str) -> dict[str, str]:
    """What an answer says in its headers, in whatever form its body is."""
    found = problem.headers | {"x-request-id": identity}
    if problem.retry_after_s is not None:
        # Whole seconds, and never 0: that would ask for a storm.
        found["retry-after"] = str(max(1, round(problem.retry_after_s + 0.5)))
    return found


def response(problem: Problem, identity: str) -> Response:
    """The problem as an answer."""
    document = {
        "type": problem.type,
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "request_id": identity,
        **problem.extensions,
    }
    return Response(orjson.dumps(document), problem.status, headers(problem, identity), MEDIA_TYPE)


def install(app: FastAPI, others: Mapping[str, Form]) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Answer every error of the app in this form: unknown addresses and wrong methods too. Returns what does it.

    ``others`` are the forms of addresses that are, or lie below, certain others.
    """

    async def answer(request: Request, error: Exception) -> Response:
        identity = request.scope.get(ID) or request_id(request.scope["headers"])
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        form = next((form for prefix, form in others.items() if f"{path}/".startswith(f"{prefix}/")), response)
        return form(as_problem(error, identity), identity)

    for kind in (Problem, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, answer)
    return answer


def _from_http(error: HTTPException) -> Problem:
    headers = dict(error.headers or {})
    if error.status_code == MethodNotAllowed.status:
        return MethodNotAllowed(f"this address takes {headers.get('Allow', 'another method')}", headers=headers)
    if error.status_code == NotFound.status:
        return NotFound("there is nothing at this address", headers=headers)
    return OtherProblem(error.status_code, str(error.detail), headers=headers)
