"""How much is asked of the engine: work that arrives, in seconds of the engine per second."""

from __future__ import annotations

import math

# Arrivals count less and less with their age: to 1/e after a second, or what twenty requests take if that is longer.
_MEMORY_S, _MEMORY_REQUESTS = 1.0, 20
_MEAN_MEMORY = 0.9


class OfferedLoad:
    """The offered load of late, an exponentially weighted mean; 1 is what the engine can just do."""

    def __init__(self) -> None:
        self._work_s = 0.0
        self._mean_s = 0.0
        self._at = -math.inf

    def arrive(self, work_s: float, now: float) -> None:
        """A request of so many seconds arrives."""
        self._work_s = self._kept(now) + work_s
        self._mean_s = _MEAN_MEMORY * self._mean_s + (1 - _MEAN_MEMORY) * work_s if self._mean_s else work_s
        self._at = now

    def at(self, now: float, without_s: float = 0.0) -> float:
        """Seconds of work that arrive in a second; ``without_s`` of it, which came of late, are left out."""
        return max(0.0, self._kept(now) - without_s) / self._memory_s

    @property
    def _memory_s(self) -> float:
        return max(_MEMORY_S, _MEMORY_REQUESTS * self._mean_s)

    def _kept(self, now: float) -> float:
        return self._work_s * math.exp(-(now - self._at) / self._memory_s) if self._work_s else 0.0
