"""What Prometheus is told. One registry for each app, so that two apps in a process do not share counters.

Labels take their values from bounded sets: models that are served (others count as ``unknown``), their exported
budgets, energy profiles, a fixed list of codes and of reasons. What a ``rate()`` needs exists before it first happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from models.energy import PROFILES
from service.reasons import REASONS, Reason

UNKNOWN_MODEL = "unknown"
# 499 is nginx's code for a client that went away; nothing was sent to it.
CLIENT_GONE = 499
CODES = (200, 400, 401, 404, 413, 415, 422, 429, CLIENT_GONE, 500, 503, 504)
# Why a request in order was not answered; those of the problems are named like them.
REJECTIONS = ("queue_full", "too_busy", "client_gone", "not_ready", "deadline_passed")
_SECONDS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class ModelState:
    """One model as the registry has it, for `lmht_model_ready`; ``version`` is empty where none could be loaded."""

    model: str
    version: str
    ready: bool


@dataclass(frozen=True)
class _Budget:
    """The children of one model and budget: looking labels up costs more than counting."""

    duration: Histogram
    queue: Histogram
    compute: Histogram
    batch: Histogram
    choices: dict[Reason, Counter]
    images: Counter
    spikes: Counter
    synops: Counter
    energy: dict[str, Counter]


class Metrics:
    """Counts what is answered. Its methods are cheap and may be called from the event loop."""

    def __init__(self) -> None:
        # The times at which counters began would be a third of every scrape; rate() does not use them.
        disable_created_metrics()
        self.registry = CollectorRegistry()
        budget = ("model", "timesteps")
        self._requests = self._counter("requests", "Classification requests, by status code.", ("model", "code"))
        self._rejected = self._counter("rejected", "Requests in order that were not answered, by reason.", ("reason",))
        self._images = self._counter("images", "Images run; one that was run twice counts at both budgets.", budget)
        self._choices = self._counter(
            "budget_choices", "Images run, by why they were run at this budget.", (*budget, "reason")
        )
        self._spikes = self._counter("spikes", "Unit spikes of images run.", budget)
        self._synops = self._counter("synaptic_operations", "Synaptic operations of images run.", budget)
        self._energy = self._counter(
            "energy_joules",
            "Estimated energy of images run, on hypothetical hardware, under the profile each asked for.",
            (*budget, "profile"),
        )
        self._duration = self._histogram(
            "request_duration_seconds",
            "Arrival to answer, of requests that were answered with a class; by their largest budget.",
            _SECONDS,
        )
        self._queue = self._histogram("queue_duration_seconds", "Waiting for the engine, of a request.", _SECONDS)
        self._compute = self._histogram("compute_duration_seconds", "In the engine, of a request.", _SECONDS)
        self._batch = self._histogram("batch_size", "Images in the batch that a request was part of.", _IMAGES)
        ProcessCollector(registry=self.registry)
        self._budgets: dict[tuple[str, int], _Budget] = {}
        self._codes: dict[tuple[str, int], Counter] = {}
        self._models: set[str] = set()
        self._declare_model(UNKNOWN_MODEL)
        self._reasons = {reason: self._rejected.labels(reason) for reason in REJECTIONS}

    def watch(self, states: Callable[[], Iterable[ModelState]], queued_images: Callable[[], float]) -> None:
        """Where to read, at each scrape, which models are ready and how many images wait."""
        self.registry.register(_Readiness(states))
        queued = Gauge("lmht_queued_images", "Images that wait for an engine.", registry=self.registry)
        queued.set_function(queued_images)

    def declare(self, model: str, timesteps: Iterable[int]) -> None:
        """Create the children of a model that is served from now on."""
        self._declare_model(model)
        for steps in timesteps:
            labels = (model, str(steps))
            self._budgets.setdefault(
                (model, steps),
                _Budget(
                    duration=self._duration.labels(*labels),
                    queue=self._queue.labels(*labels),
                    compute=self._compute.labels(*labels),
                    batch=self._batch.labels(*labels),
                    choices={reason: self._choices.labels(*labels, reason) for reason in REASONS},
                    images=self._images.labels(*labels),
                    spikes=self._spikes.labels(*labels),
                    synops=self._synops.labels(*labels),
                    energy={profile: self._energy.labels(*labels, profile) for profile in PROFILES},
                ),
            )

    def answered(self, model: str, code: int, reason: str = "") -> None:
        """A request for a model, of whatever name, was answered with a status code and, if badly, for this reason."""
        name = model if model in self._models else UNKNOWN_MODEL
        child = self._codes.get((name, code)) or self._requests.labels(name, str(code))
        child.inc()
        if reason in self._reasons:
            self._reasons[reason].inc()

    def classified(self, model: str, timesteps: int, total_s: float) -> None:
        """A request was classified, with ``timesteps`` as the largest budget of its images."""
        self._budget(model, timesteps).duration.observe(total_s)

    def ran(
        self,
        model: str,
        timesteps: int,
        *,
        reason: Reason,
        images: int,
        spikes: float,
        synops: float,
        profile: str,
        energy_nj: float | None,
        queue_s: float,
        compute_s: float,
        batch_size: int,
    ) -> None:
        """Images of a request were run: sums over them, why at this budget, and what it took."""
        budget = self._budget(model, timesteps)
        budget.choices[reason].inc(images)
        budget.images.inc(images)
        budget.spikes.inc(spikes)
        budget.synops.inc(synops)
        if energy_nj is not None:
            budget.energy[profile].inc(energy_nj * 1e-9)
        budget.queue.observe(queue_s)
        budget.compute.observe(compute_s)
        budget.batch.observe(batch_size)

    def _budget(self, model: str, timesteps: int) -> _Budget:
        if (model, timesteps) not in self._budgets:
            self.declare(model, (timesteps,))
        return self._budgets[model, timesteps]

    def _declare_model(self, model: str) -> None:
        if model not in self._models:
            self._codes |= {(model, code): self._requests.labels(model, str(code)) for code in CODES}
            self._models.add(model)

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"lmht_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"lmht_{name}", text, ("model", "timesteps"), buckets=buckets, registry=self.registry)


class _Readiness(Collector):
    """`lmht_model_ready`, read from the registry at each scrape."""

    def __init__(self, states: Callable[[], Iterable[ModelState]]) -> None:
        self._states = states

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "lmht_model_ready", "1 where the model is loaded and warm, 0 where it failed.", labels=("model", "version")
        )
        for state in self._states():
            family.add_metric((state.model, state.version), float(state.ready))
        yield family
