"""A typed client of the service: `Client`, and `AsyncClient` with the same methods.

    with Client("http://127.0.0.1:8000") as client:
        answer = client.classify("mnist", [Path("seven.png").read_bytes()], timesteps=4)

What a call is made of knows nothing of networks, so that both share it:

    `_calls`      requests to be sent, and how their answers are read
    `_options`    how a client wants to be answered
    `_answers`    what the server said instead
    `_retries`    how often and how long after a failure
    `_server`     who is asked, on whose behalf, and the clock
    `_attempts`   one call from its first request to its answer, told the time
    `_errors`     what can go wrong

Errors are `ClientError` and the classes under it. A call is repeated where that can help, as `Retries` says, and ends
by its deadline. Of the service the client imports the shapes of its answers, and nothing that serves.
"""

from service.client._async import AsyncClient
from service.client._errors import ClientError, NoAnswer, ProblemError, TimedOut, UnexpectedAnswer
from service.client._options import ClassifyOptions
from service.client._retries import NO_RETRIES, Retries
from service.client._sync import Client
from service.schemas import Classification, ModelCard, ModelList, Prediction, Problem, RepositoryEntry

__all__ = [
    "NO_RETRIES",
    "AsyncClient",
    "Classification",
    "ClassifyOptions",
    "Client",
    "ClientError",
    "ModelCard",
    "ModelList",
    "NoAnswer",
    "Prediction",
    "Problem",
    "ProblemError",
    "RepositoryEntry",
    "Retries",
    "TimedOut",
    "UnexpectedAnswer",
]
