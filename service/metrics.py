"""What Prometheus is told. One set of counts for each app, so that two apps in a process do not share any.

Labels take their values from bounded sets: models that are served (others count as ``unknown``), their exported
budgets, energy profiles, a fixed list of codes, of reasons and of outcomes. What a ``rate()`` needs exists before it
first happens. `service/METRICS.md` has a line for each.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import ProcessCollector

from models.energy import PROFILES
from service.cells import Cells, Values
from service.counts import Counter, Counts, Family, Histogram
from service.gauges import Reading
from service.reasons import REASONS, Reason

UNKNOWN_MODEL = "unknown"
# 499 is nginx's code for a client that went away; nothing was sent to it.
CLIENT_GONE = 499
CODES = (200, 400, 401, 404, 408, 413, 415, 422, 429, CLIENT_GONE, 500, 503, 504)
# Why a request in order was not answered; those of the problems are named like them.
REJECTIONS = (
    "queue_full",
    "too_busy",
    "too_many_concurrent",
    "no_room_for_body",
    "request_timeout",
    "client_gone",
    "not_ready",
    "deadline_passed",
)
LOADED, FAILED = OUTCOMES = ("loaded", "failed")
_SECONDS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_BUDGET = ("model", "timesteps")

_REQUESTS = Family("lmht_requests", "Classification requests, by status code.", ("model", "code"))
_REJECTED = Family("lmht_rejected", "Requests in order that were not answered, by reason.", ("reason",))
_DURATION = Family(
    "lmht_request_duration_seconds",
    "Arrival to answer, of requests that were answered with a class; by their largest budget.",
    _BUDGET,
    _SECONDS,
)
_DECODE = Family("lmht_decode_duration_seconds", "From the body to numbers, of a request.", ("model",), _SECONDS)
_QUEUE = Family("lmht_queue_duration_seconds", "Waiting for the engine, of a request.", _BUDGET, _SECONDS)
_COMPUTE = Family("lmht_compute_duration_seconds", "In the engine, of a request.", _BUDGET, _SECONDS)
_BATCH = Family("lmht_batch_size", "Images in the batch that a request was part of.", _BUDGET, _IMAGES)
_IMAGES_RUN = Family("lmht_images", "Images run; one that was run twice counts at both budgets.", _BUDGET)
_IMAGES_ANSWERED = Family("lmht_answered_images", "Images answered, at the budget that the answer is from.", _BUDGET)
_CHOICES = Family("lmht_budget_choices", "Images run, by why they were run at this budget.", (*_BUDGET, "reason"))
_SPIKES = Family("lmht_spikes", "Unit spikes of images run.", _BUDGET)
_SYNOPS = Family("lmht_synaptic_operations", "Synaptic operations of images run.", _BUDGET)
_ENERGY = Family(
    "lmht_energy_joules",
    "Estimated energy of images run, on hypothetical hardware, under the profile each asked for.",
    (*_BUDGET, "profile"),
)
_ANN_ENERGY = Family(
    "lmht_ann_energy_joules",
    "Estimated energy of one dense pass of the same architecture over each image that lmht_energy_joules counts.",
    (*_BUDGET, "profile"),
)
_LOADS = Family(
    "lmht_model_loads", "Versions of models that were loaded, or failed to; in each worker process.", ("outcome",)
)
_LAG = Family(
    "lmht_event_loop_lag_seconds", "How late a timer is, which is how long the event loop was held up.", (), _SECONDS
)
_WORKER_STARTS = Family("lmht_worker_starts", "Worker processes started since the server began; the first count too.")
_CPU = Family("process_cpu_seconds", "Total user and system CPU time spent in seconds, by all worker processes.")
FAMILIES = (
    _REQUESTS, _REJECTED, _DURATION, _DECODE, _QUEUE, _COMPUTE, _BATCH, _IMAGES_RUN, _IMAGES_ANSWERED, _CHOICES,
    _SPIKES, _SYNOPS, _ENERGY, _ANN_ENERGY, _LOADS, _LAG, _WORKER_STARTS, _CPU,
)  # fmt: skip


@dataclass(frozen=True)
class _Budget:
    """The children of one model and budget: looking labels up costs more than counting."""

    duration: Histogram
    queue: Histogram
    compute: Histogram
    batch: Histogram
    choices: dict[Reason, Counter]
    images: Counter
    answered: Counter
    spikes: Counter
    synops: Counter
    energy: dict[str, Counter]
    ann_energy: dict[str, Counter]


class Metrics:
    """Counts what is answered. Its methods are cheap, and for the event loop's thread.

    Args:
        folder: where the worker processes of one server meet; None where there is one only.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._cells = Cells(folder)
        self._counts = counts = Counts(self._cells)
        self.in_flight = 0
        self._budgets: dict[tuple[str, int], _Budget] = {}
        self._codes: dict[tuple[str, int], Counter] = {}
        self._decode: dict[str, Histogram] = {}
        self._declare_model(UNKNOWN_MODEL)
        self._reasons = {reason: counts.counter(_REJECTED, reason) for reason in REJECTIONS}
        self._loads = {outcome: counts.counter(_LOADS, outcome) for outcome in OUTCOMES}
        self._lag = counts.histogram(_LAG)
        self._process = _Process(counts.counter(_CPU), server=os.getppid() if folder else os.getpid())
        counts.counter(_WORKER_STARTS).add()

    # --- What happens ----------------------------------------------------------------------------------------------

    def declare(self, model: str, timesteps: Iterable[int]) -> None:
        """Create the children of a model that is served from now on. Raises OSError where there is no room for them."""
        self._declare_model(model)
        for steps in timesteps:
            if (model, steps) not in self._budgets:
                self._budgets[model, steps] = self._new_budget(model, str(steps))

    def began(self) -> None:
        """A request arrived; `answered` follows, whatever becomes of it."""
        self.in_flight += 1

    def answered(self, model: str, code: int, reason: str = "") -> None:
        """A request for a model, of whatever name, was answered with a status code and, if badly, for this reason."""
        self.in_flight -= 1
        child = self._codes.get((model, code)) or self._code(model, code)
        child.add()
        self.refused(reason)

    def refused(self, reason: str) -> None:
        """Something was refused, if for one of the reasons that are counted."""
        if reason in self._reasons:
            self._reasons[reason].add()

    def classified(
        self, model: str, timesteps: int, *, images: Iterable[tuple[int, int]], decode_s: float, total_s: float
    ) -> None:
        """A request was classified, with ``timesteps`` as the largest budget of its images.

        ``images`` are the budgets that its answers are from, each with how many there are.
        """
        self._budget(model, timesteps).duration.add(total_s)
        self._decode[model].add(decode_s)
        for steps, count in images:
            self._budget(model, steps).answered.add(count)

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
        ann_energy_nj: float | None,
        queue_s: float,
        compute_s: float,
        batch_size: int,
    ) -> None:
        """Images of a request were run: sums over them, why at this budget, and what it took.

        Energy is counted only where there is both, since their ratio is what is asked for.
        """
        budget = self._budget(model, timesteps)
        budget.choices[reason].add(images)
        budget.images.add(images)
        budget.spikes.add(spikes)
        budget.synops.add(synops)
        if energy_nj is not None and ann_energy_nj is not None:
            budget.energy[profile].add(energy_nj * 1e-9)
            budget.ann_energy[profile].add(ann_energy_nj * 1e-9)
        budget.queue.add(queue_s)
        budget.compute.add(compute_s)
        budget.batch.add(batch_size)

    def loaded(self, outcome: str) -> None:
        """A version of a model was loaded, or could not be."""
        self._loads[outcome].add()

    def lagged(self, seconds: float) -> None:
        """A timer of the event loop was so late."""
        self._lag.add(seconds)

    # --- What is told ----------------------------------------------------------------------------------------------

    def values(self) -> Values:
        """All counts, in every worker process, those that are gone included. May be called from any thread.

        Raises OSError where the folder that they share cannot be read.
        """
        return self._cells.totals()

    def process_readings(self) -> list[Reading]:
        """What this process takes, now; brings its count of CPU seconds up to date as well."""
        return self._process.readings()

    def close(self) -> None:
        """The last count; other worker processes tell of it from now on."""
        self._process.readings()
        self._cells.close()

    # --- Children --------------------------------------------------------------------------------------------------

    def _budget(self, model: str, timesteps: int) -> _Budget:
        if (model, timesteps) not in self._budgets:
            self.declare(model, (timesteps,))
        return self._budgets[model, timesteps]

    def _new_budget(self, *labels: str) -> _Budget:
        counter, histogram = self._counts.counter, self._counts.histogram
        return _Budget(
            duration=histogram(_DURATION, *labels),
            queue=histogram(_QUEUE, *labels),
            compute=histogram(_COMPUTE, *labels),
            batch=histogram(_BATCH, *labels),
            choices={reason: counter(_CHOICES, *labels, reason) for reason in REASONS},
            images=counter(_IMAGES_RUN, *labels),
            answered=counter(_IMAGES_ANSWERED, *labels),
            spikes=counter(_SPIKES, *labels),
            synops=counter(_SYNOPS, *labels),
            energy={profile: counter(_ENERGY, *labels, profile) for profile in PROFILES},
            ann_energy={profile: counter(_ANN_ENERGY, *labels, profile) for profile in PROFILES},
        )

    def _declare_model(self, model: str) -> None:
        if model not in self._decode:
            self._codes |= {(model, code): self._counts.counter(_REQUESTS, model, str(code)) for code in CODES}
            self._decode[model] = self._counts.histogram(_DECODE, model)

    def _code(self, model: str, code: int) -> Counter:
        """The counter of a name that is not served, or of a code that is not foreseen."""
        return self._counts.counter(_REQUESTS, model if model in self._decode else UNKNOWN_MODEL, str(code))


class _Process:
    """What the system says of this process; ``server`` is the one whose start is the server's."""

    def __init__(self, cpu: Counter, server: int) -> None:
        self._cpu, self._counted_s = cpu, 0.0
        self._own = ProcessCollector(registry=None)
        self._started = {
            family.name: family.samples[0].value
            for family in ProcessCollector(pid=lambda: server, registry=None).collect()
            if family.name == "process_start_time_seconds"
        }

    def readings(self) -> list[Reading]:
        found = []
        for family in self._own.collect():
            value = family.samples[0].value
            if family.name == _CPU.name:
                self._cpu.add(max(0.0, value - self._counted_s))
                self._counted_s = max(value, self._counted_s)
            else:
                found.append(Reading(family.name, (), self._started.get(family.name, value)))
        return found
