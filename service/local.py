"""Classification without a server, through the same handler."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self, Unpack

import orjson

from service import options as chosen
from service import problems
from service.app import Services, make_services
from service.cards import model_list
from service.client import Classification, ClassifyOptions, ModelList, Problem, ProblemError
from service.client._options import values
from service.handler import ClassifyRequest, Pictures
from service.settings import Settings
from service.transports import native

_ID = "local"


class Local:
    """Answers as `service.client.Client` does, with models of the settings' repositories.

    Use it in a ``with`` statement. A model is opened when it is first asked, and stays open.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        self._services: Services = self._runner.run(_made(self._settings))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._runner:
            self._runner.run(self._services.close())

    def models(self) -> ModelList:
        """The models that are open: if none is, the first by name that can be, and what is wrong with those before."""
        return self._runner.run(self._models())

    def classify(
        self, model: str, images: Sequence[bytes], *, version: int | None = None, **options: Unpack[ClassifyOptions]
    ) -> Classification:
        """Classify encoded pictures in one request. Raises ProblemError, as by a server."""
        try:
            return self._runner.run(self._classify(model, images, version, options))
        except problems.Problem as error:
            raise ProblemError(_as_answered(error)) from error

    async def _models(self) -> ModelList:
        services = self._services
        if not services.models.ready:
            for name in await services.models.names():
                await services.load(name)
                if services.models.ready:
                    break
            else:
                await services.load()  # for the reasons, of what is no model at all too
        return model_list(services.models.models(), services.models.failures)

    async def _classify(
        self, model: str, images: Sequence[bytes], version: int | None, options: ClassifyOptions
    ) -> Classification:
        request = ClassifyRequest(
            model=model,
            version=version,
            images=Pictures(images),
            options=chosen.from_values(values(options)),
            id=options.get("id") or _ID,
            arrived=time.perf_counter(),
        )
        if not self._services.models.versions(model):
            await self._services.load(model)
        answer = await self._services.handler.classify(request)
        return Classification.model_validate(orjson.loads(orjson.dumps(native.document(answer))))


async def _made(settings: Settings) -> Services:
    return make_services(settings)


def _as_answered(error: problems.Problem) -> Problem:
    return Problem.model_validate(
        {
            "type": error.type,
            "title": error.title,
            "status": error.status,
            "detail": error.detail,
            "request_id": _ID,
            **error.extensions,
        }
    )
