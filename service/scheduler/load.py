"""How much is asked of the engine: work that arrives, in seconds of the engine per second."""

from __future__ import annotations

import math

# Arrivals count less and less with their age, in seconds: to 1/e after so many.
_MEMORY_S = 1.0


class OfferedLoad:
    """The offered load of the last second or so, an exponentially weighted mean; 1 is what one engine can just do."""

    def __init__(self) -> None:
        self._work_s = 0.0
        self._at = -math.inf

    def arrive(self, work_s: float, now: float) -> None:
        """Work of so many seconds arrives."""
        self._work_s = self._kept(now) + work_s
        self._at = now

    def at(self, now: float) -> float:
        """Seconds of work that arrive in a second."""
        return self._kept(now) / _MEMORY_S

    def _kept(self, now: float) -> float:
        return self._work_s * math.exp(-(now - self._at) / _MEMORY_S) if self._work_s else 0.0
