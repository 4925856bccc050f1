"""This process's gauges, read from the parts of the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from service.gauges import Reading
from service.handler import Handler
from service.metrics import Metrics
from service.problems import NotReady
from service.registry import Registry
from service.scheduler import Scheduler
from service.settings import Settings


class Readings:
    """Reads the gauges of one worker process.

    Args:
        version: this server's.
        joining: whether this process does not take requests yet, which is then no fault of the server's.
    """

    def __init__(
        self,
        settings: Settings,
        models: Registry,
        scheduler: Scheduler,
        handler: Handler,
        metrics: Metrics,
        *,
        version: str,
        joining: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._models = models
        self._scheduler = scheduler
        self._handler = handler
        self._metrics = metrics
        self._version = version
        self._joining = joining

    def __call__(self) -> list[Reading]:
        """All of them, now. For the event loop."""
        return [*self._server(), *self._of_models(), *self._work(), *self._metrics.process_readings()]

    def _server(self) -> Iterator[Reading]:
        for engine in {model.engine.name for model in self._models.models()} or {""}:
            yield Reading("lmht_build_info", (self._version, engine), 1.0)
        yield Reading("lmht_ready", (), float(self._joining() or self._is_ready()))
        yield Reading("lmht_workers", (), self._settings.workers)
        yield Reading("lmht_workers_answering", (), 1.0)

    def _of_models(self) -> Iterator[Reading]:
        served = {f"{model.name}/{model.version}": model for model in self._models.models()}
        for model in served.values():
            yield Reading("lmht_model_ready", (model.name, str(model.version)), 1.0)
        for key in self._models.failures:
            name, _, version = key.partition("/")  # without a version where none could be loaded
            yield Reading("lmht_model_failed", (name, version), 1.0)
            if key not in served:
                yield Reading("lmht_model_ready", (name, version), 0.0)
        highest = {model.name: model for model in served.values()}  # they come by version
        for model in highest.values():
            for budget in model.manifest.budgets:
                if budget.accuracy is not None:
                    yield Reading("lmht_budget_accuracy", (model.name, str(budget.timesteps)), budget.accuracy.served)

    def _work(self) -> Iterator[Reading]:
        yield Reading("lmht_requests_in_flight", (), self._metrics.in_flight)
        yield Reading("lmht_request_limit", (), self._settings.max_concurrent_requests)
        yield Reading("lmht_running_images", (), self._scheduler.running_images)
        yield Reading("lmht_queued_images", (), self._scheduler.queued_images)
        yield Reading("lmht_queue_limit_images", (), self._settings.queue_capacity)
        yield Reading("lmht_queued_seconds", (), self._scheduler.queued_s)
        yield Reading("lmht_queue_limit_seconds", (), self._settings.queue_s)

    def _is_ready(self) -> bool:
        try:
            self._handler.check_ready()
        except NotReady:
            return False
        return True
