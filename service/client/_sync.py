"""The client for programs that wait."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from types import TracebackType
from typing import Any, Self, Unpack

import httpx
import numpy.typing as npt

from service.client import _calls
from service.client._attempts import Again, Attempts, Done
from service.client._calls import Answer, Call
from service.client._options import ClassifyOptions
from service.client._retries import DEFAULT, Retries
from service.client._server import REAL, Clock, Server
from service.schemas import Classification, ModelCard, ModelList, RepositoryEntry


class Client:
    """Talks to one server; use it in a ``with`` statement, or `close` it. May be shared between threads.

    A call without ``deadline_ms`` ends ``timeout_s`` after its start, one with it by then: repeats and waits included.
    Where the wait before the next repeat would end later, the call ends at once with what the server said last. A
    single step of the network, such as one read, may take what was left when the attempt began, so that a server that
    falls silent halfway can hold a call up for longer than that; `AsyncClient` is exact.

    Args:
        url: the server's address, such as ``http://127.0.0.1:8000``.
        api_key: sent with requests to classify and about the models that are served.
        admin_token: sent with requests to load and unload.
        timeout_s: seconds for a call without a deadline.
        retries: how often a call is repeated, and how long after.
        transport: replaces the network, for tests.
        clock: replaces time, for tests.

    Raises ClientError for an address, a key or a token that cannot be used, and ValueError for a time that is none.
    Methods raise `NoAnswer`, `UnexpectedAnswer`, or `ProblemError` where the server says why.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        admin_token: str | None = None,
        timeout_s: float = 30.0,
        retries: Retries = DEFAULT,
        transport: httpx.BaseTransport | None = None,
        clock: Clock = REAL,
    ) -> None:
        self._server = Server(url, api_key, admin_token, timeout_s, retries, clock)
        self._http = httpx.Client(base_url=url, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def ready(self) -> bool:
        """Whether the server may be sent requests."""
        return self._ask(_calls.ready())

    def models(self) -> ModelList:
        """The served models."""
        return self._ask(_calls.models())

    def card(self, model: str, version: int | None = None) -> ModelCard:
        """A model's card."""
        return self._ask(_calls.card(model, version))

    def classify(
        self, model: str, images: Sequence[bytes], *, version: int | None = None, **options: Unpack[ClassifyOptions]
    ) -> Classification:
        """Classify encoded pictures in one request."""
        return self._ask(_calls.classify(model, images, version, options))

    def classify_numbers(
        self, model: str, instances: npt.ArrayLike, *, version: int | None = None, **options: Unpack[ClassifyOptions]
    ) -> Classification:
        """Classify float [n, C, H, W] in the value range of the model's input; sent as float32, in one request."""
        return self._ask(_calls.classify_numbers(model, instances, version, options))

    def index(self) -> list[RepositoryEntry]:
        """Every version of every model in the server's repositories, served or not."""
        return self._ask(_calls.index())

    def load(self, model: str, version: int | None = None) -> list[RepositoryEntry]:
        """Bring a model, or one version, to what its repository holds now; the model's entries then.

        Not repeated once the server may have got it.
        """
        return self._ask(_calls.change("load", model, version))

    def unload(self, model: str, version: int | None = None) -> list[RepositoryEntry]:
        """Serve a model, or one version, no more; the model's entries then. Repeated no more than `load` is."""
        return self._ask(_calls.change("unload", model, version))

    def _ask(self, call: Call[Answer]) -> Answer:
        attempts = Attempts(call, self._server)
        while True:
            request = attempts.request(self._http)
            try:
                response = self._send(request, attempts)
            except httpx.HTTPError as error:
                verdict: Done[Answer] | Again = attempts.failed(error)
            else:
                verdict = attempts.answered(response)
            if isinstance(verdict, Done):
                return verdict.answer
            self._server.clock.sleep(verdict.wait_s)

    def _send(self, request: httpx.Request, attempts: Attempts[Answer]) -> httpx.Response:
        response = self._http.send(request, stream=True)
        with closing(response):
            assert isinstance(response.stream, httpx.SyncByteStream)
            response.stream = _Timed(response.stream, attempts)
            response.read()
        return response


class _Timed(httpx.SyncByteStream):
    """A body of which no more is read once the call has ended: httpx limits the time of each piece only."""

    def __init__(self, stream: httpx.SyncByteStream, attempts: Attempts[Any]) -> None:
        self._stream = stream
        self._attempts = attempts

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._stream:
            if self._attempts.left_s <= 0:
                raise httpx.ReadTimeout("")
            yield piece

    def close(self) -> None:
        self._stream.close()
