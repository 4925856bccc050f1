"""What each model has done since the server started, as Triton's statistics extension counts it.

Durations are in nanoseconds. A request of n images counts once as a request and n times as an inference; a batch,
whatever requests are in it, is one execution.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

_DURATIONS = ("success", "fail", "queue", "decode", "compute", "finish")


@dataclass
class Duration:
    """How often, and how long in all."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        """Once more."""
        self.count += 1
        self.ns += round(seconds * 1e9)

    def __add__(self, other: Duration) -> Duration:
        return Duration(self.count + other.count, self.ns + other.ns)


@dataclass
class ModelStatistics:
    """One version of a model."""

    last_inference_ms: int = 0
    inferences: int = 0
    executions: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    decode: Duration = field(default_factory=Duration)
    compute: Duration = field(default_factory=Duration)
    finish: Duration = field(default_factory=Duration)
    batches: dict[int, Duration] = field(default_factory=dict)

    def __add__(self, other: ModelStatistics) -> ModelStatistics:
        sizes = self.batches.keys() | other.batches.keys()
        return ModelStatistics(
            last_inference_ms=max(self.last_inference_ms, other.last_inference_ms),
            inferences=self.inferences + other.inferences,
            executions=self.executions + other.executions,
            **{name: getattr(self, name) + getattr(other, name) for name in _DURATIONS},
            batches={n: self.batches.get(n, Duration()) + other.batches.get(n, Duration()) for n in sizes},
        )

    def plain(self) -> dict[str, Any]:
        """As JSON can carry it, for `from_plain`."""
        return {**asdict(self), "batches": [[size, d.count, d.ns] for size, d in self.batches.items()]}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> ModelStatistics:
        """What `plain` made."""
        durations = {name: Duration(**values[name]) for name in _DURATIONS}
        batches = {size: Duration(count, ns) for size, count, ns in values["batches"]}
        return cls(**{**values, **durations, "batches": batches})


class Statistics:
    """Counts for all models. Its methods are for the event loop."""

    def __init__(self) -> None:
        self._models: dict[Hashable, ModelStatistics] = defaultdict(ModelStatistics)

    def of(self, key: Hashable) -> ModelStatistics:
        """What a version of a model has done; it may have done nothing."""
        return self._models[key]

    def succeeded(
        self, key: Hashable, images: int, *, total: float, decode: float, queue: float, compute: float
    ) -> None:
        """A request was answered; seconds in all and where they went, the rest to what came after the engine."""
        model = self._models[key]
        model.last_inference_ms = time.time_ns() // 1_000_000
        model.inferences += images
        model.success.add(total)
        model.decode.add(decode)
        model.queue.add(queue)
        model.compute.add(compute)
        model.finish.add(max(0.0, total - decode - queue - compute))

    def failed(self, key: Hashable, seconds: float) -> None:
        """A request was not answered, for whatever reason."""
        self._models[key].fail.add(seconds)

    def executed(self, key: Hashable, images: int, seconds: float) -> None:
        """A batch was run."""
        model = self._models[key]
        model.executions += 1
        model.batches.setdefault(images, Duration()).add(seconds)
