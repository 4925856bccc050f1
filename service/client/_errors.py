"""What a call can end with instead of its answer.

* ClientError
  x NoAnswer
    - TimedOut
  x UnexpectedAnswer
  x ProblemError
"""

from __future__ import annotations

from service.schemas import Problem


class ClientError(Exception):
    """The server could not be reached or did not answer as it should, or what it was to be told cannot be sent."""


class NoAnswer(ClientError):
    """The server could not be reached, or the connection broke."""


class TimedOut(NoAnswer):
    """The server was reached and said nothing in time."""


class UnexpectedAnswer(ClientError):
    """Something answered, but not as this service does.

    ``status`` is the answer's HTTP status, None where the answer could not even be decoded.
    """

    def __init__(self, message: str, status: int | None) -> None:
        super().__init__(message)
        self.status = status


class ProblemError(ClientError):
    """The server answered with a problem: its own words are in ``problem``."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.status} {problem.title}: {problem.detail}")
        self.problem = problem

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status
