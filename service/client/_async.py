"""The client for programs on an event loop; each method does what the one of `Client` does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self, Unpack

import httpx
import numpy.typing as npt

from service.client import _calls
from service.client._attempts import Again, Attempts, Done
from service.client._calls import Answer, Call
from service.client._options import ClassifyOptions
from service.client._retries import DEFAULT, Retries
from service.client._server import REAL, Clock, Server
from service.schemas import Classification, ModelCard, ModelList, RepositoryEntry


class AsyncClient:
    """`Client` for asyncio, in an ``async with`` statement. Cancelling a call closes its connection.

    A call ends by its deadline whatever the server does.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        admin_token: str | None = None,
        timeout_s: float = 30.0,
        retries: Retries = DEFAULT,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Clock = REAL,
    ) -> None:
        self._server = Server(url, api_key, admin_token, timeout_s, retries, clock)
        self._http = httpx.AsyncClient(base_url=url, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def ready(self) -> bool:
        """Whether the server may be sent requests."""
        return await self._ask(_calls.ready())

    async def models(self) -> ModelList:
        """The served models."""
        return await self._ask(_calls.models())

    async def card(self, model: str, version: int | None = None) -> ModelCard:
        """A model's card."""
        return await self._ask(_calls.card(model, version))

    async def classify(
        self, model: str, images: Sequence[bytes], *, version: int | None = None, **options: Unpack[ClassifyOptions]
    ) -> Classification:
        """Classify encoded pictures in one request."""
        return await self._ask(_calls.classify(model, images, version, options))

    async def classify_numbers(
        self, model: str, instances: npt.ArrayLike, *, version: int | None = None, **options: Unpack[ClassifyOptions]
    ) -> Classification:
        """Classify float [n, C, H, W] in the value range of the model's input; sent as float32, in one request."""
        return await self._ask(_calls.classify_numbers(model, instances, version, options))

    async def index(self) -> list[RepositoryEntry]:
        """Every version of every model in the server's repositories, served or not."""
        return await self._ask(_calls.index())

    async def load(self, model: str, version: int | None = None) -> list[RepositoryEntry]:
        """Bring a model, or one version, to what its repository holds now; the model's entries then.

        Not repeated once the server may have got it.
        """
        return await self._ask(_calls.change("load", model, version))

    async def unload(self, model: str, version: int | None = None) -> list[RepositoryEntry]:
        """Serve a model, or one version, no more; the model's entries then. Repeated no more than `load` is."""
        return await self._ask(_calls.change("unload", model, version))

    async def _ask(self, call: Call[Answer]) -> Answer:
        attempts = Attempts(call, self._server)
        while True:
            request = attempts.request(self._http)
            try:
                # httpx limits each step of the network; this is for all of them together.
                async with asyncio.timeout(attempts.left_s):
                    response = await self._http.send(request)
            except (httpx.HTTPError, TimeoutError) as error:
                verdict: Done[Answer] | Again = attempts.failed(error)
            else:
                verdict = attempts.answered(response)
            if isinstance(verdict, Done):
                return verdict.answer
            await self._server.clock.sleep_async(verdict.wait_s)
