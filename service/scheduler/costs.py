"""What a batch takes: for each model and budget a line a·n + b over its n images, fitted to what batches took; and
what its images take of the event loop beside the engine.

A fit forgets: the last forty batches make up most of it, so that it follows a machine that slows down. It is robust:
a batch counts as at most so much off the line (Huber's bound), so that one that was interrupted hardly moves it, while
a lasting change widens the bound until the line has followed. It is never worse than proportional where batches had all
the same size: then the slope is the one measured when the model was loaded, scaled to the present level.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from service.scheduler.handling import Handling

# The prediction before anything was measured, in seconds an image.
_UNMEASURED_S = 1.0
_FORGET = 0.95
# Residuals count up to so many typical deviations, and a deviation is at least so much.
_BOUND, _LEAST_DEVIATION = 3.0, 0.05
_DEVIATION_MEMORY = 0.9
# How much the sizes of past batches must have varied (in images²) to outweigh the slope that was known before.
_STIFFNESS = 1.0


@dataclass
class _Line:
    """A weighted least-squares line through (images, seconds); ``deviation`` is the typical share it is off by."""

    slope: float
    base: float
    deviation: float
    weight: float = 0.0
    images: float = 0.0
    squares: float = 0.0
    seconds: float = 0.0
    products: float = 0.0
    prior: tuple[float, float] = field(init=False)

    def __post_init__(self) -> None:
        self.prior = self.slope, self.base

    def at(self, images: float, batches: float = 1) -> float:
        return self.slope * images + self.base * batches

    def observe(self, images: int, seconds: float) -> None:
        expected = self.at(images)
        bound = _BOUND * max(self.deviation, _LEAST_DEVIATION) * expected
        residual = min(max(seconds - expected, -bound), bound)
        if expected > 0:
            # Twice the bound: a lasting change widens it batch by batch, a single stop only once.
            surprise = min(abs(seconds - expected), 2 * bound) / expected
            self.deviation = _DEVIATION_MEMORY * self.deviation + (1 - _DEVIATION_MEMORY) * surprise
        self._add(images, max(expected + residual, 0.0))

    def _add(self, images: int, seconds: float) -> None:
        self.weight = _FORGET * self.weight + 1
        self.images = _FORGET * self.images + images
        self.squares = _FORGET * self.squares + images * images
        self.seconds = _FORGET * self.seconds + seconds
        self.products = _FORGET * self.products + images * seconds
        mean_images, mean_seconds = self.images / self.weight, self.seconds / self.weight
        variance = max(0.0, self.squares / self.weight - mean_images**2)
        covariance = self.products / self.weight - mean_images * mean_seconds
        slope, base = self.prior
        before = slope * mean_seconds / (slope * mean_images + base) if slope + base > 0 else 0.0
        fitted = (covariance + _STIFFNESS * before) / (variance + _STIFFNESS)
        # Neither an image nor a batch takes less than no time.
        self.slope = min(max(fitted, 0.0), mean_seconds / mean_images)
        self.base = mean_seconds - self.slope * mean_images


class CostModel:
    """Predicted seconds of batches, by model and budget, and of handling their images. ``key`` is the model's."""

    def __init__(self, handling: Handling) -> None:
        self._handling = handling
        self._lines: dict[tuple[Hashable, int], _Line] = {}

    def seed(self, key: Hashable, timesteps: int, seconds: Mapping[int, float]) -> None:
        """Start from batches that were timed when the model was loaded: seconds by number of images, at least one.

        A line that is there already, of the same model loaded before, is replaced.
        """
        small, large = min(seconds), max(seconds)
        slope = (seconds[large] - seconds[small]) / (large - small) if large > small else seconds[small] / small
        slope = min(max(slope, 0.0), seconds[large] / large)
        line = _Line(slope, max(0.0, seconds[small] - slope * small), _LEAST_DEVIATION)
        for images, taken in seconds.items():
            line._add(images, taken)
        self._lines[key, timesteps] = line

    def observe(self, key: Hashable, timesteps: int, images: int, seconds: float) -> None:
        """Take into account what a batch of so many images took."""
        line = self._lines.get((key, timesteps))
        if line is None:
            self.seed(key, timesteps, {images: seconds})
        else:
            line.observe(images, seconds)

    def seconds(self, key: Hashable, timesteps: int, images: int, batches: int = 1) -> float:
        """Predicted seconds until so many images are answered, in so many batches."""
        return self.engine_s(key, timesteps, images, batches) + self.handling_s(images)

    def at_most(self, key: Hashable, timesteps: int, images: int) -> float:
        """The same of one batch with a margin of two typical deviations, for what must not be late."""
        return self.engine_at_most(key, timesteps, images) + self.handling_s(images)

    def handling_s(self, images: int) -> float:
        """Of that what is not the engine's; see `service.scheduler.handling`."""
        return self._handling.image_s * images

    def engine_s(self, key: Hashable, timesteps: int, images: int, batches: int = 1) -> float:
        """Predicted seconds of the engine alone."""
        line = self._lines.get((key, timesteps))
        return images * self._dearest_image_s() if line is None else line.at(images, batches)

    def engine_at_most(self, key: Hashable, timesteps: int, images: int) -> float:
        """The same of one batch with the margin."""
        line = self._lines.get((key, timesteps))
        return images * self._dearest_image_s() if line is None else line.at(images) * (1 + 2 * line.deviation)

    def batch_within(self, key: Hashable, timesteps: int, seconds: float, bucket: int) -> int:
        """How many images, at least one and at most ``bucket``, are answered in so many seconds, as predicted."""
        line = self._lines.get((key, timesteps))
        if line is None or seconds >= self.seconds(key, timesteps, bucket):
            return bucket
        image_s = line.slope + self.handling_s(1)
        return max(1, min(bucket, int((seconds - line.base) / image_s + 1e-9))) if image_s > 0 else 1

    def knows(self, key: Hashable, timesteps: int) -> bool:
        """Whether anything was measured of this model at this budget."""
        return (key, timesteps) in self._lines

    def forget(self, key: Hashable) -> None:
        """Drop all that is known of a model."""
        self._lines = {known: line for known, line in self._lines.items() if known[0] != key}

    def _dearest_image_s(self) -> float:
        """For what was never measured: the dearest image of what was."""
        return max((line.at(1) for line in self._lines.values()), default=_UNMEASURED_S)
