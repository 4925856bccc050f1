"""What can go wrong with a request, as exceptions that know their HTTP status (RFC 9457 calls them problems).

* Problem
  x BadRequest                 400
    - UnreadableBody
    - UnreadablePicture
    - AnimatedPicture
    - CannotLoad
    - UnreadableRequest
  - Unauthorized               401
  - Forbidden                  403
  x NotFound                   404
    - UnknownModel
    - UnknownVersion
  - MethodNotAllowed           405
  - RequestTimeout             408
  x TooLarge                   413
    - BodyTooLarge
    - TooManyImages
    - TooManyPixels
  - UnsupportedMediaType       415
  x Unprocessable              422
    - InvalidOption
    - InvalidInstances
    - InvalidTensor
    - BudgetTooSmall
    - DeadlineTooShort
  x TooManyRequests            429
    - QueueFull
    - TooBusy
    - TooManyConcurrent
    - NoRoomForBody
  - HeaderTooLarge             431
  - InternalError              500
  - NotReady                   503
  - DeadlinePassed             504
  - OtherProblem               any

The handler raises them and knows no HTTP beyond the number; each transport writes them in its own API's form.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus


class Problem(Exception):
    """A request that gets an error for an answer.

    Args:
        detail: one sentence for the client, about this occurrence and free of internals.
        extensions: further members of the problem, plain data.
        retry_after_s: when to try again, in seconds.
        headers: further response headers that this status asks for.
    """

    status: int = 500
    slug: str = "internal-error"
    title: str = "Internal error"

    def __init__(
        self,
        detail: str,
        *,
        extensions: Mapping[str, object] | None = None,
        retry_after_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extensions = dict(extensions or {})
        self.retry_after_s = retry_after_s
        self.headers = dict(headers or {})

    @property
    def type(self) -> str:
        """A URI that names the kind of problem, for programs to tell problems of one status apart."""
        return f"urn:problem-type:lmht:{self.slug}"

    @property
    def reason(self) -> str:
        """The same as a label."""
        return self.slug.replace("-", "_")


class BadRequest(Problem):
    """400: the request could not be read."""

    status, slug, title = 400, "bad-request", "Bad request"


class UnreadableBody(BadRequest):
    """The body is not what its media type says."""

    slug, title = "unreadable-body", "The body cannot be read"


class UnreadablePicture(BadRequest):
    """The bytes are no whole picture in one of the formats read here."""

    slug, title = "unreadable-picture", "The picture cannot be read"


class AnimatedPicture(BadRequest):
    """A picture of several frames, of which none is the one to classify."""

    slug, title = "animated-picture", "The picture is an animation"


class CannotLoad(BadRequest):
    """What the repository holds cannot be served."""

    slug, title = "cannot-load", "The model cannot be loaded"


class UnreadableRequest(BadRequest):
    """What came is no HTTP."""

    slug, title = "unreadable-request", "The request cannot be read"


class Unauthorized(Problem):
    """401: the key or token that is asked for is missing or wrong."""

    status, slug, title = 401, "unauthorized", "Unauthorized"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"www-authenticate": "Bearer"})


class Forbidden(Problem):
    """403: not from here."""

    status, slug, title = 403, "forbidden", "Forbidden"


class NotFound(Problem):
    """404: there is nothing at this address."""

    status, slug, title = 404, "not-found", "Not found"


class UnknownModel(NotFound):
    """No model of that name is served."""

    slug, title = "unknown-model", "Unknown model"


class UnknownVersion(NotFound):
    """The model is served, but not in that version."""

    slug, title = "unknown-version", "Unknown version"


class MethodNotAllowed(Problem):
    """405: the address exists, the method does not go with it."""

    status, slug, title = 405, "method-not-allowed", "Method not allowed"


class RequestTimeout(Problem):
    """408: the client took too long to send its request; nothing was wrong with it so far."""

    status, slug, title = 408, "request-timeout", "The request took too long to arrive"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"connection": "close"})


class TooLarge(Problem):
    """413: more than this server takes in one request."""

    status, slug, title = 413, "too-large", "Content too large"


class BodyTooLarge(TooLarge):
    """The body has more bytes than allowed."""

    slug, title = "body-too-large", "The body is too large"


class TooManyImages(TooLarge):
    """The request has more images than allowed."""

    slug, title = "too-many-images", "Too many images"


class TooManyPixels(TooLarge):
    """The pictures have more pixels than allowed, by their headers; they were not decoded."""

    slug, title = "too-many-pixels", "Too many pixels"


class UnsupportedMediaType(Problem):
    """415: a body of a kind that is not read here."""

    status, slug, title = 415, "unsupported-media-type", "Unsupported media type"


class Unprocessable(Problem):
    """422: read and understood, but it asks for what there is not."""

    status, slug, title = 422, "unprocessable", "Unprocessable request"


class InvalidOption(Unprocessable):
    """An option is unknown, not offered, or out of range."""

    slug, title = "invalid-option", "Invalid option"


class InvalidInstances(Unprocessable):
    """``instances`` has another shape, or other values, than the model's input."""

    slug, title = "invalid-instances", "Invalid instances"


class InvalidTensor(Unprocessable):
    """A tensor of the Open Inference Protocol is not as the protocol or the model has it."""

    slug, title = "invalid-tensor", "Invalid tensor"


class BudgetTooSmall(Unprocessable):
    """Fewer time-steps than the model's smallest budget."""

    slug, title = "budget-too-small", "Budget too small"


class DeadlineTooShort(Unprocessable):
    """No budget that was allowed would meet the deadline, even with nothing else to do."""

    slug, title = "deadline-too-short", "The deadline is too short"


class TooManyRequests(Problem):
    """429: not now; ``retry_after_s`` says when."""

    status, slug, title = 429, "too-many-requests", "Too many requests"


class QueueFull(TooManyRequests):
    """The work does not fit the queue."""

    slug, title = "queue-full", "The queue is full"


class TooBusy(TooManyRequests):
    """What is ahead in the queue leaves no time to meet the deadline."""

    slug, title = "too-busy", "Too busy to meet the deadline"


class TooManyConcurrent(TooManyRequests):
    """As many requests are under way as are taken at once."""

    slug, title = "too-many-concurrent", "Too many requests at once"


class NoRoomForBody(TooManyRequests):
    """Other requests' bodies take all the memory that there is for them."""

    slug, title = "no-room-for-body", "No room for the body"


class HeaderTooLarge(Problem):
    """431: more or larger headers than are taken."""

    status, slug, title = 431, "header-too-large", "The headers are too large"


class InternalError(Problem):
    """500: our fault. The log has the cause, under the request's id."""


class NotReady(Problem):
    """503: still loading, or already draining."""

    status, slug, title = 503, "not-ready", "Not ready"


class DeadlinePassed(Problem):
    """504: the deadline that the client set has passed; work that had not begun was dropped."""

    status, slug, title = 504, "deadline-passed", "Deadline passed"


class OtherProblem(Problem):
    """A status that a framework underneath gives and that has no class here."""

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail, headers=headers)
        known = HTTPStatus(status)
        self.status, self.slug, self.title = status, known.name.lower().replace("_", "-"), known.phrase
