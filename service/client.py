"""A small typed client of the native API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Literal, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from service.schemas import Classification, ModelCard, ModelList, Problem

Answer = TypeVar("Answer", bound=BaseModel)


class ClientError(Exception):
    """The server could not be reached or did not answer as it should."""


class ProblemError(ClientError):
    """The server answered with a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.status} {problem.title}: {problem.detail}")
        self.problem = problem


class Client:
    """Talks to one server; use it in a ``with`` statement.

    Args:
        url: the server's address, such as ``http://127.0.0.1:8000``.
        timeout_s: seconds for connecting and for each answer.
        transport: replaces the network, for tests.
    """

    def __init__(self, url: str, *, timeout_s: float = 30.0, transport: httpx.BaseTransport | None = None) -> None:
        self._url = url
        try:
            self._http = httpx.Client(base_url=url, timeout=timeout_s, transport=transport)
        except httpx.InvalidURL as error:
            raise ClientError(f"{url!r} is no address: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._http.close()

    def models(self) -> ModelList:
        """The served models. Raises ClientError."""
        return self._ask(ModelList, "GET", "/v1/models")

    def card(self, model: str) -> ModelCard:
        """A model's card. Raises ClientError."""
        return self._ask(ModelCard, "GET", f"/v1/models/{quote(model, safe='')}")

    def classify(
        self,
        model: str,
        images: Sequence[bytes],
        *,
        timesteps: int | Literal["auto"] | None = None,
        top_k: int | None = None,
        deadline_ms: float | None = None,
        energy_profile: str | None = None,
    ) -> Classification:
        """Classify encoded pictures in one request. Raises ClientError, ProblemError where the server says why."""
        options = {
            "timesteps": timesteps,
            "top_k": top_k,
            "deadline_ms": deadline_ms,
            "energy_profile": energy_profile,
        }
        return self._ask(
            Classification,
            "POST",
            f"/v1/models/{quote(model, safe='')}/classify",
            files=[("image", ("image", image)) for image in images],
            data={name: str(value) for name, value in options.items() if value is not None},
        )

    def _ask(
        self,
        kind: type[Answer],
        method: str,
        path: str,
        *,
        files: Sequence[tuple[str, tuple[str, bytes]]] | None = None,
        data: Mapping[str, str] | None = None,
    ) -> Answer:
        try:
            response = self._http.request(method, path, files=files, data=data)
        except (httpx.TransportError, httpx.UnsupportedProtocol) as error:
            raise ClientError(f"no answer from {self._url}: {error}") from error
        try:
            if response.is_success:
                return kind.model_validate_json(response.content)
            problem = Problem.model_validate_json(response.content)
        except ValidationError as error:
            raise ClientError(f"{self._url} answered {response.status_code}, but not as this service does") from error
        raise ProblemError(problem)
