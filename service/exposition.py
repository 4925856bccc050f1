"""Metrics as Prometheus reads them, of one process or of several together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from service import counts, gauges
from service.cells import Values
from service.gauges import Reading
from service.metrics import FAMILIES


def registry(values: Callable[[], Values], readings: Callable[[], Sequence[Sequence[Reading]]]) -> CollectorRegistry:
    """What Prometheus's client takes: counts, and the gauges of each process, read whenever it collects."""
    made = CollectorRegistry(auto_describe=False)
    made.register(_Everything(values, readings))
    return made


def write(metrics: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """The metrics as text in the form that an Accept header prefers, and its media type."""
    encode, media_type = choose_encoder(accept)
    return encode(metrics), media_type


class _Everything(Collector):
    def __init__(self, values: Callable[[], Values], readings: Callable[[], Sequence[Sequence[Reading]]]) -> None:
        self._values, self._readings = values, readings

    def collect(self) -> Iterator[Metric]:
        # Gauges first: reading them brings what is counted of the process up to date.
        read = self._readings()
        yield from counts.metrics(FAMILIES, self._values())
        yield from gauges.metrics(read)
