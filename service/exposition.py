"""Metrics as Prometheus reads them, of one process or of several together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

# How samples of several processes become one, where not by adding them up.
_OTHERWISE: dict[str, Callable[[float, float], float]] = {
    "lmht_model_ready": min,
    "process_start_time_seconds": min,
}


def samples(registry: CollectorRegistry) -> list[Any]:
    """What a registry holds as plain data, for `merged` in another process."""
    return [
        [family.name, family.documentation, family.type, [[s.name, s.labels, s.value] for s in family.samples]]
        for family in registry.collect()
    ]


def merged(registry: CollectorRegistry, others: Sequence[list[Any]]) -> CollectorRegistry:
    """A registry together with what `samples` gave in other processes; with none, the registry itself."""
    if not others:
        return registry
    whole = CollectorRegistry(auto_describe=False)
    whole.register(_Merged([samples(registry), *others]))
    return whole


def write(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """The metrics as text in the form that an Accept header prefers, and its media type."""
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type


class _Merged(Collector):
    def __init__(self, processes: Iterable[list[Any]]) -> None:
        self._processes = processes

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
        for process in self._processes:
            for name, text, kind, found in process:
                families.setdefault(name, Metric(name, text, kind))
                together = values.setdefault(name, {})
                combine = _OTHERWISE.get(name, float.__add__)
                for sample, labels, value in found:
                    key = sample, tuple(labels.items())
                    together[key] = combine(together[key], float(value)) if key in together else float(value)
        for name, family in families.items():
            for (sample, labels), value in values[name].items():
                family.add_sample(sample, dict(labels), value)
            yield family
