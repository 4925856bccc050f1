"""The worked examples of the OpenAPI description.

Successful answers are a server's own, for the bundled models, recorded in ``examples.json``: the tests hold them
against the schemas and against what the models answer now.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from service import problems
from service.problems import Problem

# A drawn seven, 28×28, grey.
SEVEN_PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAABwAAAAcBAMAAACAI8KnAAAAGFBMVEX////s7OzKysqysrKkpKRXV1cQEBAAAADLmTiIAAAAdklE"
    "QVR42mMsZ0AGTAxU47IwMDAw7IHIOEG5Z1G5ggwMDAzvmWGK0xgYGP53KSIb9ZfBEJl7l0UBifv/gBCyvf8+OCJz3zApIHMPMCM7"
    "8t8DJ2TuG0YFZO59FgEk7v8DSsge/MNggMxlUVFA5jIGoYYGIxVCEgA70RWkvY6apgAAAABJRU5ErkJggg=="
)

_PROBLEMS: dict[int, Problem] = {
    400: problems.UnreadablePicture("the picture is damaged or cut short"),
    401: problems.Unauthorized("a valid API key is needed, as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"),
    404: problems.UnknownModel("there is no model 'minst'"),
    408: problems.RequestTimeout("the body was not here after 60 s"),
    413: problems.BodyTooLarge("the body has more than 16777216 bytes"),
    415: problems.UnsupportedMediaType("a body of type 'text/plain' is not read here"),
    422: problems.InvalidOption(
        "timesteps: input should be greater than or equal to 1",
        extensions={"errors": [{"option": "timesteps", "message": "input should be greater than or equal to 1"}]},
    ),
    429: problems.QueueFull("the queue has no room for 8 more images"),
    500: problems.InternalError("the request failed through no fault of yours; the log has the cause under example-1"),
    503: problems.NotReady("models are still being loaded", extensions={"failed": {}}),
    504: problems.DeadlinePassed("the deadline of 5 ms has passed"),
}

EXAMPLES: dict[str, Any] = {
    **json.loads(Path(__file__).with_name("examples.json").read_text(encoding="utf-8")),
    "metrics": "# HELP lmht_requests_total Classification requests, by status code.\n"
    "# TYPE lmht_requests_total counter\n"
    'lmht_requests_total{code="200",model="mnist"} 12.0\n',
    **{
        f"problem-{code}": {
            "type": problem.type,
            "title": problem.title,
            "status": problem.status,
            "detail": problem.detail,
            "request_id": "example-1",
            **problem.extensions,
        }
        for code, problem in _PROBLEMS.items()
    },
}
