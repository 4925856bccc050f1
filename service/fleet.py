"""What all worker processes of a server do or answer as one; with a single process, what it does itself.

Each process has models, a queue and counts of its own. A change of what is served is made in each, one after the
other, before it counts as made; counts are added up; the server is ready when all of them are.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from service import exposition
from service.gauges import Reading
from service.handler import Handler
from service.loading import ServedModel
from service.meter import Meter
from service.metrics import Metrics
from service.peers import PeerError, Peers
from service.problems import NotReady
from service.readings import Readings
from service.registry import LoadFailed, Registry, Status, UnknownModel, UnknownVersion
from service.statistics import ModelStatistics, Statistics

# What answers at once, unless the process compiles a model; and what does just that.
_QUICK_S, _CHANGE_S = 10.0, 600.0
# Of the time that Prometheus waits for a scrape, 10 s unless it is told otherwise, little is for one that hangs.
_SCRAPE_S = 2.0


class Fleet:
    """This process together with its peers."""

    def __init__(
        self,
        models: Registry,
        handler: Handler,
        metrics: Metrics,
        readings: Readings,
        statistics: Statistics,
        peers: Peers,
        meter: Meter,
    ) -> None:
        self._models = models
        self._handler = handler
        self._metrics = metrics
        self._readings = readings
        self._statistics = statistics
        self._peers = peers
        self._meter = meter
        self._joining = False
        self.registry = exposition.registry(metrics.values, lambda: [[*readings(), *meter.readings()]])

    @property
    def joining(self) -> bool:
        """Whether this process does not take requests yet although others do."""
        return self._joining

    async def start(self) -> bool:
        """Begin to answer the others. Whether one of them serves already.

        Then this process is to take requests only once it can, and does not count for readiness until it joins.
        """
        await self._peers.listen(
            {
                "served": self._served,
                "ready": self._ready,
                "load": self._load,
                "unload": self._unload,
                "gauges": self._gauges,
                "statistics": self._counted,
            }
        )
        self._joining = await self.served_elsewhere() is not None
        return self._joining

    def join(self) -> None:
        """From now on this process takes requests."""
        self._joining = False

    async def close(self) -> None:
        """Answer the others no more."""
        await self._peers.close()

    async def served_elsewhere(self) -> set[str] | None:
        """What a process serves that has loaded its models, ``name/version``; None where there is no such process."""
        for served in await self._peers.ask("served", timeout_s=_QUICK_S, strict=False):
            if served is not None:
                return set(served)
        return None

    async def check_ready(self) -> None:
        """Raises NotReady where a request might find a process that is not."""
        self._handler.check_ready()
        for reason in await self._ask("ready"):
            if reason is not None:
                raise NotReady(reason, extensions={"failed": self._models.failures}, retry_after_s=1)

    async def load(self, name: str, version: int | None = None) -> list[Status]:
        """`Registry.load` in every process, first in this one: where that fails, the others are not bothered.

        Raises what it raises; LoadFailed for another process too.
        """
        return await self._change(self._models.load, "load", name, version)

    async def unload(self, name: str, version: int | None = None) -> list[Status]:
        """`Registry.unload` in every process. Raises what it raises, and LoadFailed for another process."""
        return await self._change(self._models.unload, "unload", name, version)

    async def exposition(self, accept: str) -> tuple[bytes, str]:
        """All processes' metrics as text, in the form that an Accept header prefers, and its media type.

        Counts are those of all processes that ever were; gauges those of the processes that answer.
        """
        told = await self._peers.ask_together("gauges", timeout_s=_SCRAPE_S)
        others = [[Reading(name, tuple(labels), value) for name, labels, value in readings] for readings in told]
        readings = [await self._read(), *others]
        # Files, and a lock that another process may hold; alone, what is read must not change meanwhile.
        read = self._metrics.values
        values = await asyncio.to_thread(read) if self._peers.folder else read()
        # Writing takes 20 ms with the bundled models, in which requests would wait.
        registry = exposition.registry(lambda: values, lambda: readings)
        return await asyncio.to_thread(exposition.write, registry, accept)

    async def statistics(self, served: ServedModel) -> ModelStatistics:
        """What all processes have done with a model. Raises NotReady where one does not answer."""
        name, version = served.key
        others = await self._ask("statistics", name=name, version=version)
        return sum(map(ModelStatistics.from_plain, others), self._statistics.of(served.key))

    async def _read(self) -> list[Reading]:
        """This process's gauges; the GPU's driver may take a while."""
        return [*self._readings(), *await asyncio.to_thread(self._meter.readings)]

    async def _ask(self, call: str, **arguments: Any) -> list[Any]:
        try:
            return await self._peers.ask(call, timeout_s=_QUICK_S, **arguments)
        except PeerError as error:
            raise NotReady(str(error), extensions={"failed": self._models.failures}, retry_after_s=1) from error

    async def _change(
        self, change: Callable[[str, int | None], Awaitable[list[Status]]], call: str, name: str, version: int | None
    ) -> list[Status]:
        async with self._peers.alone():
            states = await change(name, version)
            try:
                await self._peers.ask(call, timeout_s=_CHANGE_S, name=name, version=version)
            except PeerError as error:
                raise LoadFailed(f"done in some worker processes, but not in all: {error}") from error
            return states

    # --- The others' calls -----------------------------------------------------------------------------------------

    async def _served(self) -> list[str] | None:
        return [f"{model.name}/{model.version}" for model in self._models.models()] if self._models.loaded else None

    async def _ready(self) -> str | None:
        if self._joining:
            return None
        try:
            self._handler.check_ready()
        except NotReady as error:
            return error.detail
        return None

    async def _load(self, name: str, version: int | None) -> None:
        await self._models.load(name, version)

    async def _unload(self, name: str, version: int | None) -> None:
        with contextlib.suppress(UnknownModel, UnknownVersion):  # where it could not be loaded, it need not be unloaded
            await self._models.unload(name, version)

    async def _gauges(self) -> list[Any]:
        return [[reading.name, reading.labels, reading.value] for reading in await self._read()]

    async def _counted(self, name: str, version: int) -> dict[str, Any]:
        return self._statistics.of((name, version)).plain()
