"""The app, put together: settings in, a FastAPI application out. Nothing is global and nothing is opened here yet.

Models are loaded in the background once the server runs, so that ``/livez`` answers at once and ``/readyz`` tells how
far it is. At the end the queue is drained before the engines are closed, since work in it still needs them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from models.bundle import Bundle, Engine
from service import engines, lag, logs
from service.ahead import engine_options
from service.cards import device_card
from service.engines import devices
from service.engines.devices import Device
from service.fleet import Fleet
from service.handler import Handler
from service.loading import ServedModel, rest
from service.meter import Meter, open_meter
from service.metrics import FAILED, LOADED, Metrics
from service.observing import Observer
from service.peers import Peers
from service.readings import Readings
from service.registry import Registry
from service.scheduler import Limits, Scheduler
from service.settings import Settings
from service.statistics import Statistics
from service.transports import endpoint, errors, health, native, openapi, playground, prometheus, v2
from service.transports.access import Access
from service.transports.room import Room
from service.transports.watched import Watched

if TYPE_CHECKING:
    from service.observing.tracing import Tracing

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
    meter: Meter
    device: Device

    async def load(self, only: str | None = None) -> None:
        """Load and warm every model, or one; those that cannot be loaded are named in ``models.failures``.

        Where other worker processes serve already, what they do.
        """
        await self.models.load_all(only, self.fleet.served_elsewhere)

    def leave(self) -> None:
        """Be no longer ready, and load nothing more; requests are still taken."""
        self.handler.leaving = True
        self.models.stop_loading()

    def give_up(self) -> None:
        """Take nothing new, and answer what waits for an engine that it will not be run."""
        self.handler.draining = True
        self.scheduler.give_up()

    async def close(self) -> None:
        """Take nothing new, drain the queue, then close the engines."""
        self.handler.draining = True
        self.models.stop_loading()
        await self.fleet.close()
        await self.scheduler.close()
        await self.models.close()
        self.handler.close()
        await asyncio.to_thread(self.meter.close)
        self.metrics.close()


def make_services(
    settings: Settings,
    open_engine: Callable[[Bundle], Engine] | None = None,
    on_change: Callable[[], None] = lambda: None,
    peers: Peers | None = None,
    metrics: Metrics | None = None,
    meter: Meter | None = None,
    ahead: Callable[[Bundle], Engine | None] = lambda bundle: None,
) -> Services:
    """The parts, with nothing loaded yet; see `create_app`."""
    peers, device = peers or Peers(), devices.choose(settings.device)
    _log_device(device, settings)
    options = engine_options(settings, device)
    limits = Limits(
        capacity_images=settings.queue_capacity,
        capacity_s=settings.queue_s,
        max_delay_s=settings.max_delay_ms / 1000,
        patience_s=settings.auto_patience_ms / 1000,
        hang_s=settings.engine_timeout_s,
        inline_s=(device.inline_ms if settings.inline_ms is None else settings.inline_ms) / 1000,
    )
    metrics, statistics = metrics or Metrics(peers.folder), Statistics()
    scheduler = Scheduler(
        limits,
        overload=settings.overload,
        concurrency=device.concurrency,
        on_run=statistics.executed,
        busy=time.thread_time,
    )

    def on_timed(served: ServedModel) -> None:
        for timesteps, seconds in served.seconds.items():
            scheduler.seed(served.key, timesteps, seconds)

    def on_ready(served: ServedModel) -> None:
        metrics.declare(served.name, served.manifest.timesteps)
        metrics.loaded(LOADED)
        on_timed(served)
        _log_ready(served)

    def on_complete(served: ServedModel, seconds: float) -> None:
        on_timed(served)
        _log_complete(served, seconds)

    async def drained(served: ServedModel) -> None:
        await scheduler.drained(served.engine)
        if served.version not in models.versions(served.name):  # it may have been replaced by another of its key
            scheduler.forget(served.key)

    def let_others_work(seconds: float) -> None:
        models.check_going_on()
        if models.ready:
            rest(seconds, lambda: handler.activity)

    models = Registry(
        settings.models,
        open_engine or (lambda bundle: ahead(bundle) or engines.open_engine(bundle, options, let_others_work)),
        on_ready,
        drained,
        on_change,
        patience_s=settings.drain_s,
        on_failed=lambda _: metrics.loaded(FAILED),
        on_complete=on_complete,
        rest=let_others_work,
    )
    meter = meter or open_meter(cuda=device.name == "cuda" and not device.interpreted, shared=settings.workers > 1)
    handler = Handler(settings, models, scheduler, metrics, statistics, meter)
    readings = Readings(
        settings, models, scheduler, handler, metrics, version=_version(), joining=lambda: fleet.joining
    )
    fleet = Fleet(models, handler, metrics, readings, statistics, peers, meter)
    return Services(models, scheduler, metrics, handler, fleet, meter, device)


def create_app(
    settings: Settings,
    open_engine: Callable[[Bundle], Engine] | None = None,
    on_change: Callable[[], None] = lambda: None,
    peers: Peers | None = None,
    metrics: Metrics | None = None,
    tracing: Tracing | None = None,
    meter: Meter | None = None,
    ahead: Callable[[Bundle], Engine | None] = lambda bundle: None,
) -> FastAPI:
    """The application. Needs no torch unless the settings ask for a GPU.

    Args:
        settings: all of them.
        open_engine: replaces the engines that the settings ask for.
        on_change: called once all models are loaded that can be, and whenever what is served may have changed.
        peers: the other worker processes.
        metrics: replaces what counts.
        tracing: replaces what makes spans.
        meter: replaces what measures the GPU.
        ahead: gives the engine of a bundle where one was opened already.

    Raises EngineError where the device that the settings ask for cannot be had.
    """
    services = make_services(settings, open_engine, on_change, peers, metrics, meter, ahead)
    observer = Observer(settings, _version(), tracing)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        observer.start()
        loading = asyncio.create_task(_load(services))
        watching = asyncio.create_task(lag.watch(services.metrics.lagged))
        await asyncio.sleep(0)  # changes that the others ask for from now on come after what is loaded at first
        if await services.fleet.start():
            await loading
            services.fleet.join()
        try:
            yield
        finally:
            services.handler.draining = True
            loading.cancel()
            watching.cancel()
            await asyncio.gather(loading, watching, return_exceptions=True)
            await services.close()
            await asyncio.to_thread(observer.close)

    # Swagger UI from the package's own files: the page works without a network. ReDoc would add nothing.
    app = FastAPIOffline(
        title="LM-HT Serve",
        summary="Spiking networks with a selectable time-step budget",
        description=_DESCRIPTION,
        version=_version(),
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
        # FastAPI's own spans would double those of `service.observing`, and know nothing of queues and engines.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.services = services
    _add_transports(app, services, settings, observer)
    return app


def _add_transports(app: FastAPI, services: Services, settings: Settings, observer: Observer) -> None:
    handler, models, metrics, fleet = services.handler, services.models, services.metrics, services.fleet
    access = Access(settings)
    kinds = (native.ClassifyEndpoint, v2.InferEndpoint)
    room = Room(settings.max_concurrent_requests, settings.max_buffered_bytes)
    endpoints = [kind(handler, metrics, settings, access, observer, room) for kind in kinds]
    answer = errors.install(app, {v2.PREFIX: v2.problem_response})
    app.include_router(health.router(fleet, models))
    app.include_router(prometheus.router(fleet))
    app.include_router(native.router(handler, models, device_card(services.device)))
    app.include_router(v2.models_router(handler, models, fleet, version=app.version, max_images=settings.max_images))
    app.include_router(v2.repository_router(models, fleet, access))
    app.router.routes.extend([*endpoint.routes(endpoints), *playground.routes()])
    app.add_middleware(Watched, observer=observer, answer=answer)
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


def _log_device(device: Device, settings: Settings) -> None:
    if device.interpreted:
        _log.warning("models run in Triton's interpreter, thousands of times slower than on a GPU: %s", device.reason)
    elif settings.device != "cpu":
        _log.info("models run on the %s: %s", "GPU" if device.name == "cuda" else "CPU", device.reason)


def _log_complete(served: ServedModel, seconds: float) -> None:
    _log.info(
        "model %s/%d has passes of %s images after another %.2f s",
        served.name,
        served.version,
        ", ".join(map(str, served.engine.batch_sizes)),
        seconds,
        extra=logs.fields(
            {"model": served.name, "version": str(served.version), "complete_s": round(seconds, 3)},
        ),
    )


def _log_ready(served: ServedModel) -> None:
    took = served.opening
    _log.info(
        "model %s/%d is ready on %s after %.2f s",
        served.name,
        served.version,
        served.engine.name,
        took.total_s,
        extra=logs.fields(
            {
                "model": served.name,
                "version": str(served.version),
                "engine": served.engine.name,
                "read_s": round(took.read_s, 3),
                "compile_s": round(took.compile_s, 3),
                "warm_up_s": round(took.warm_up_s, 3),
            }
        ),
    )


def _version() -> str:
    try:
        return version("lmht-serve")
    except PackageNotFoundError:  # run from a source tree that was not installed
        return "0"
