"""What is read at a scrape rather than counted: who is ready, what waits, what the process takes.

Each worker process reads its own, and whoever answers the scrape puts them together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

_MODEL = ("model", "version")
# How those of several processes become one.
_TOGETHER: dict[str, Callable[[Iterable[float]], float]] = {"sum": sum, "min": min, "max": max}


@dataclass(frozen=True)
class Gauge:
    """What is read, and how the readings of several processes become one.

    Some read what something else counts: Prometheus is told of a ``counter``, whose name ends in ``_total``.
    """

    name: str
    text: str
    labels: tuple[str, ...] = ()
    together: Literal["sum", "min", "max"] = "sum"
    kind: Literal["gauge", "counter"] = "gauge"


@dataclass(frozen=True)
class Reading:
    """A gauge's value; ``labels`` in the gauge's order."""

    name: str
    labels: tuple[str, ...]
    value: float


GAUGES = (
    Gauge("lmht_build_info", "1; says which version runs, on which engines.", ("version", "engine"), "max"),
    Gauge("lmht_ready", "1 where every worker process that answers is ready, 0 where one is not.", (), "min"),
    Gauge("lmht_workers", "Worker processes that there should be.", (), "max"),
    Gauge("lmht_workers_answering", "Worker processes that answered this scrape; the other gauges are theirs."),
    Gauge("lmht_model_ready", "1 where the model is loaded and warm, 0 where it failed.", _MODEL, "min"),
    Gauge(
        "lmht_model_failed",
        "1 where the last attempt to load it failed, even if one from before serves.",
        _MODEL,
        "max",
    ),
    Gauge(
        "lmht_budget_accuracy",
        "Accuracy as served of the model's highest version, measured on the data set that its card names.",
        ("model", "timesteps"),
        "max",
    ),
    Gauge("lmht_requests_in_flight", "Classification requests that have arrived and are not answered yet."),
    Gauge("lmht_request_limit", "Requests that may be in flight, LMHT_MAX_CONCURRENT_REQUESTS in each worker process."),
    Gauge("lmht_running_images", "Images in batches that run."),
    Gauge("lmht_queued_images", "Images that wait for an engine."),
    Gauge("lmht_queue_limit_images", "Images that may wait, LMHT_QUEUE_CAPACITY in each worker process."),
    Gauge("lmht_queued_seconds", "Seconds of work that wait for an engine, as predicted."),
    Gauge("lmht_queue_limit_seconds", "Seconds of work that may wait, LMHT_QUEUE_S in each worker process."),
    Gauge("process_virtual_memory_bytes", "Virtual memory in bytes, of all worker processes."),
    Gauge("process_resident_memory_bytes", "Resident memory in bytes, of all worker processes."),
    Gauge("process_start_time_seconds", "When the server started, in seconds since 1970.", (), "min"),
    Gauge("process_open_fds", "Open file descriptors, of all worker processes."),
    Gauge("process_max_fds", "File descriptors that may be open, of all worker processes."),
    # Processes share one GPU, so of what is read of the whole of it there is one.
    Gauge(
        "lmht_gpu_energy_joules_total",
        "Energy of the GPU as measured by NVML since its driver was loaded, whatever ran on it.",
        (),
        "max",
        "counter",
    ),
    Gauge("lmht_gpu_power_watts", "Power that the GPU draws, by NVML.", (), "max"),
    Gauge("lmht_gpu_memory_bytes", "Memory of the GPU in use, by NVML, other programs' too.", (), "max"),
    Gauge("lmht_gpu_memory_limit_bytes", "Memory that the GPU has.", (), "max"),
    Gauge("lmht_gpu_reserved_bytes", "Memory of the GPU that all worker processes hold for tensors and CUDA graphs."),
    Gauge(
        "lmht_gpu_utilization_ratio",
        "Share of NVML's last sample period, at most a second, in which anything ran on the GPU.",
        (),
        "max",
    ),
)


def metrics(processes: Sequence[Iterable[Reading]]) -> Iterator[Metric]:
    """The readings of all processes in the form of Prometheus's client; what nobody reads is not there."""
    found: dict[str, dict[tuple[str, ...], list[float]]] = {}
    for readings in processes:
        for reading in readings:
            found.setdefault(reading.name, {}).setdefault(reading.labels, []).append(reading.value)
    for gauge in GAUGES:
        if gauge.name not in found:
            continue
        kind = GaugeMetricFamily if gauge.kind == "gauge" else CounterMetricFamily
        family = kind(gauge.name, gauge.text, labels=gauge.labels)
        for labels, values in found[gauge.name].items():
            family.add_metric(labels, _TOGETHER[gauge.together](values))
        yield family
