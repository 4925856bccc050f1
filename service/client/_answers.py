"""What the server said where it did not answer what was asked: problem+json, or Open Inference's ``{"error": …}``."""

from __future__ import annotations

import httpx
from pydantic import BaseModel, ValidationError

from service.client._errors import ProblemError, UnexpectedAnswer
from service.schemas import Problem


class _V2Error(BaseModel):
    error: str


def read_error(url: str, path: str, response: httpx.Response) -> ProblemError | UnexpectedAnswer:
    """The error that an answer of the server at ``url`` is, to a call of ``path``."""
    try:
        return ProblemError(Problem.model_validate_json(response.content))
    except ValidationError:
        pass
    # Many servers say {"error": …}; only under /v2 does this one.
    if path.startswith("/v2/"):
        try:
            return ProblemError(_as_problem(_V2Error.model_validate_json(response.content), response))
        except ValidationError:
            pass
    return unexpected(url, response.status_code)


def unexpected(url: str, status: int) -> UnexpectedAnswer:
    """The error for an answer that this service would not give."""
    return UnexpectedAnswer(f"{url} answered {status}, but not as this service does", status)


def _as_problem(said: _V2Error, response: httpx.Response) -> Problem:
    return Problem(
        type="about:blank",  # RFC 9457: nothing is known beyond the status, whose name is the title
        title=httpx.codes.get_reason_phrase(response.status_code),
        status=response.status_code,
        detail=said.error,
        request_id=response.headers.get("x-request-id", ""),
    )
