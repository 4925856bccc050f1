"""What batches took, and what work is going to take."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

_UNMEASURED_S = 1.0  # the prediction before any batch has been timed
_MEMORY = 0.8  # weight of the past in the running mean: the last ten batches make up 90 % of it


class Costs:
    """Seconds that an image takes, as a running mean over batches, by cost key."""

    def __init__(self) -> None:
        self._per_image: dict[Hashable, float] = {}

    def observe(self, key: Hashable, images: int, seconds: float) -> None:
        """Take a batch's time into account."""
        mean = self._per_image.get(key, seconds / images)
        self._per_image[key] = _MEMORY * mean + (1 - _MEMORY) * seconds / images

    def predict(self, work: Mapping[Hashable, int]) -> float:
        """Seconds for these images; what was never measured counts as the dearest that was."""
        if not self._per_image:
            return _UNMEASURED_S
        dearest = max(self._per_image.values())
        return sum(images * self._per_image.get(key, dearest) for key, images in work.items())
