"""What an image takes of the event loop beside the engine: being read, decoded and answered.

Of a small network that is the most of it, and no queue shows it: requests wait for the loop itself, unread or with
their answers unwritten. Divided by what was answered, what the loop was busy with is also what refusals and all else
take from those answers; so the wait behind n images is n times this and the engine's time, by Little's law.

It is measured where the loop is busy. Where it is not, an idle process's own work would count as the few requests':
there the measurement is only an upper bound.
"""

from __future__ import annotations

from collections.abc import Callable

# A window has at least so many seconds, and so many images that were answered.
_WINDOW_S, _FEWEST = 0.1, 8
# The share of a window from which on the loop is busy with requests and little else.
_BUSY = 0.5
_FORGET = 0.8


class Handling:
    """Fits it, window by window.

    Args:
        busy: seconds that the event loop's thread was busy, inline batches included.
        now: the scheduler's clock, when it begins.
    """

    def __init__(self, busy: Callable[[], float], now: float) -> None:
        self.image_s = 0.0
        self._busy = busy
        self._began = now
        self._busy_before = busy()
        self._engine_s = 0.0
        self._images = 0
        # Over the windows of late, the last one most.
        self._sum_s = self._sum_images = 0.0

    def ran_inline(self, seconds: float) -> None:
        """A batch had the loop for so long."""
        self._engine_s += seconds

    def answered(self, images: int, now: float) -> None:
        """So many images have their results."""
        self._images += images
        if self._images < _FEWEST or now - self._began < _WINDOW_S:
            return
        busy = self._busy()
        spent_s = busy - self._busy_before
        handled_s = max(0.0, spent_s - self._engine_s)
        if spent_s >= _BUSY * (now - self._began):
            self._sum_s = _FORGET * self._sum_s + handled_s
            self._sum_images = _FORGET * self._sum_images + self._images
            self.image_s = self._sum_s / self._sum_images
        elif handled_s < self.image_s * self._images:
            self._sum_s, self._sum_images = handled_s, self._images
            self.image_s = handled_s / self._images
        self._began, self._busy_before, self._engine_s, self._images = now, busy, 0.0, 0
