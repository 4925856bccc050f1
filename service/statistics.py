"""What each model has done since the server started, as Triton's statistics extension counts it.

Durations are in nanoseconds. A request of n images counts once as a request and n times as an inference; a batch,
whatever requests are in it, is one execution.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field


@dataclass
class Duration:
    """How often, and how long in all."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float, count: int = 1) -> None:
        """Once more, or several times together."""
        self.count += count
        self.ns += round(seconds * 1e9)


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
    batches: dict[int, Duration] = field(default_factory=lambda: defaultdict(Duration))


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
        model.batches[images].add(seconds)
