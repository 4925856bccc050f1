"""Any number of images from an engine's passes, which come in a few sizes: what all engines do alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from models.bundle import FloatArray, Outputs
from service.engines.buckets import Buckets

# The least of them counts; the first warms up what runs them.
_TIMED_PASSES = 4


class Batches:
    """Makes up batches from passes, by what these are measured to take.

    Args:
        shape: of an image, (C, H, W).
        sizes: of the passes that there are, by budget.
        run: classifies images, at most as many as the size, at a budget in a pass of that size; raises EngineError.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        sizes: Mapping[int, Sequence[int]],
        run: Callable[[FloatArray, int, int], Outputs],
    ) -> None:
        self._shape = shape
        self._run = run
        self._buckets: dict[int, Buckets] = {}
        for timesteps, there in sizes.items():
            self.measure(timesteps, there)

    def measure(self, timesteps: int, sizes: Sequence[int]) -> None:
        """Make up a budget's batches from passes of these sizes from now on."""
        images = {size: np.zeros((size, *self._shape), np.float32) for size in sizes}
        seconds = dict.fromkeys(sizes, math.inf)
        # By turns, so that whatever else goes on meanwhile slows down one size as much as another.
        for _ in range(_TIMED_PASSES):
            for size in sizes:
                began = time.perf_counter()
                self._run(images[size], timesteps, size)
                seconds[size] = min(seconds[size], time.perf_counter() - began)
        self._buckets[timesteps] = Buckets(seconds)

    def run(self, images: FloatArray, timesteps: int) -> Outputs:
        """Classify images, float32 [n, C, H, W], at an exported budget.

        Raises ValueError for images of another shape or type or a budget that there is not, and what a pass raises.
        """
        if images.dtype != np.float32 or images.shape[1:] != self._shape or not len(images):
            raise ValueError(f"images are {images.dtype} {list(images.shape)}, not float32 {['n', *self._shape]}")
        buckets = self._buckets.get(timesteps)
        if buckets is None:
            raise ValueError(f"no budget of {timesteps} time-steps is open")
        parts: list[Outputs] = []
        start = 0
        for size in buckets.passes(len(images)):
            parts.append(self._run(images[start : start + size], timesteps, size))
            start += size
        if len(parts) == 1:
            return parts[0]
        return Outputs(
            logits=np.concatenate([part.logits for part in parts]),
            spikes=np.concatenate([part.spikes for part in parts]),
            synops=np.concatenate([part.synops for part in parts]),
        )

    def close(self) -> None:
        """Run nothing any more."""
        self._buckets.clear()
