"""The app, put together: settings in, a FastAPI application out. Nothing is global and nothing is opened here yet.

Models are loaded in the background once the server runs, so that ``/livez`` answers at once and ``/readyz`` tells how
far it is. At the end the queue is drained before the engines are closed, since work in it still needs them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from models.bundle import Bundle, Engine
from service import engines
from service.engines import EngineOptions
from service.fleet import Fleet
from service.handler import Handler
from service.loading import ServedModel, rest
from service.metrics import Metrics, ModelState
from service.peers import Peers
from service.registry import Registry
from service.scheduler import Limits, Scheduler
from service.settings import Settings
from service.statistics import Statistics
from service.transports import endpoint, errors, health, native, openapi, playground, prometheus, v2
from service.transports.access import Access

_log = logging.getLogger("lmht")
_DESCRIPTION = """\
Classification with LM-HT spiking networks. A request chooses how many time-steps it is willing to pay for; the answer
says what was recognised, how many spikes it took, and what that would cost in energy on hypothetical hardware.
"""


@dataclass(frozen=True)
class Services:
    """The parts of a running server; also used without HTTP, by the command line."""

    models: Registry
    scheduler: Scheduler
    metrics: Metrics
    handler: Handler
    fleet: Fleet

    async def load(self, only: str | None = None) -> None:
        """Load and warm every model, or one; those that cannot be loaded are named in ``models.failures``.

        Where other worker processes serve already, what they do.
        """
        await self.models.load_all(only, self.fleet.served_elsewhere)

    async def close(self) -> None:
        """Take nothing new, drain the queue, then close the engines."""
        self.handler.draining = True
        await self.fleet.close()
        await self.scheduler.close()
        await self.models.close()
        self.handler.close()


def make_services(
    settings: Settings,
    open_engine: Callable[[Bundle], Engine] | None = None,
    on_change: Callable[[], None] = lambda: None,
    peers: Peers | None = None,
) -> Services:
    """The parts, with nothing loaded yet; see `create_app`."""
    options = EngineOptions(
        threads=settings.threads,
        batch_sizes=settings.batch_sizes,
        provider=settings.provider,
        processes=settings.workers,
    )
    limits = Limits(
        capacity_images=settings.queue_capacity,
        capacity_s=settings.queue_s,
        max_delay_s=settings.max_delay_ms / 1000,
        patience_s=settings.auto_patience_ms / 1000,
        hang_s=settings.engine_timeout_s,
        inline_s=settings.inline_ms / 1000,
    )
    metrics, statistics = Metrics(), Statistics()
    scheduler = Scheduler(limits, overload=settings.overload, on_run=statistics.executed)

    def on_ready(served: ServedModel) -> None:
        metrics.declare(served.name, served.manifest.timesteps)
        for timesteps, seconds in served.seconds.items():
            scheduler.seed(served.key, timesteps, seconds)

    async def drained(served: ServedModel) -> None:
        await scheduler.drained(served.engine)
        if served.version not in models.versions(served.name):  # it may have been replaced by another of its key
            scheduler.forget(served.key)

    def let_others_work(seconds: float) -> None:
        if models.ready:
            rest(seconds, lambda: handler.activity)

    models = Registry(
        settings.models,
        open_engine or (lambda bundle: engines.open_engine(bundle, options, let_others_work)),
        on_ready,
        drained,
        on_change,
        patience_s=settings.drain_s,
    )
    handler = Handler(settings, models, scheduler, metrics, statistics)
    fleet = Fleet(models, handler, metrics, statistics, peers or Peers())
    return Services(models, scheduler, metrics, handler, fleet)


def create_app(
    settings: Settings,
    open_engine: Callable[[Bundle], Engine] | None = None,
    on_change: Callable[[], None] = lambda: None,
    peers: Peers | None = None,
) -> FastAPI:
    """The application. Needs no torch.

    Args:
        settings: all of them.
        open_engine: replaces the engines that the settings ask for.
        on_change: called once all models are loaded that can be, and whenever what is served may have changed.
        peers: the other worker processes.
    """
    services = make_services(settings, open_engine, on_change, peers)
    services.metrics.watch(lambda: _states(services.models), lambda: services.scheduler.queued_images)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(_load(services))
        await asyncio.sleep(0)  # changes that the others ask for from now on come after what is loaded at first
        if await services.fleet.start():
            await loading
            services.fleet.join()
        try:
            yield
        finally:
            services.handler.draining = True
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            await services.close()

    # Swagger UI from the package's own files: the page works without a network. ReDoc would add nothing.
    app = FastAPIOffline(
        title="LM-HT Serve",
        summary="Spiking networks with a selectable time-step budget",
        description=_DESCRIPTION,
        version=_version(),
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.services = services
    _add_transports(app, services, settings)
    return app


def _add_transports(app: FastAPI, services: Services, settings: Settings) -> None:
    handler, models, metrics, fleet = services.handler, services.models, services.metrics, services.fleet
    access = Access(settings)
    endpoints = [kind(handler, metrics, settings, access) for kind in (native.ClassifyEndpoint, v2.InferEndpoint)]
    errors.install(app, {v2.PREFIX: v2.problem_response})
    app.include_router(health.router(fleet, models))
    app.include_router(prometheus.router(fleet))
    app.include_router(native.router(handler, models))
    app.include_router(v2.models_router(handler, models, fleet, version=app.version, max_images=settings.max_images))
    app.include_router(v2.repository_router(models, fleet, access))
    app.router.routes.extend([*endpoint.routes(endpoints), *playground.routes()])
    app.add_middleware(endpoint.Shortcut, endpoints=endpoints)
    openapi.install(app, {path: each.describe for each in endpoints for path in each.paths})


async def _load(services: Services) -> None:
    try:
        await services.load()
    except Exception:  # whatever it was, the server stays up and its readiness tells
        _log.exception("loading the models failed")
        return
    for name, reason in services.models.failures.items():
        _log.error("model %s cannot be served: %s", name, reason)
    for served in services.models.models():
        _log.info("model %s/%s is ready on %s", served.name, served.version, served.engine.name)


def _states(models: Registry) -> Iterator[ModelState]:
    for served in models.models():
        yield ModelState(served.name, str(served.version), True)
    ready = {f"{served.name}/{served.version}" for served in models.models()}
    for key in models.failures.keys() - ready:
        model, _, number = key.partition("/")
        yield ModelState(model, number, False)


def _version() -> str:
    try:
        return version("lmht-serve")
    except PackageNotFoundError:  # run from a source tree that was not installed
        return "0"
