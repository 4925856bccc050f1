"""Making up a batch of any size from passes of a few fixed sizes."""

from __future__ import annotations

from collections.abc import Mapping


class Buckets:
    """The sizes in which an engine's passes come, ascending, and what a pass of each takes.

    Args:
        seconds: by size, as measured; only their ratios count. Of plans that take the same, the one with fewest passes
            is taken.
    """

    def __init__(self, seconds: Mapping[int, float]) -> None:
        self.sizes = tuple(sorted(seconds))
        self._plans: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
        for rows in range(1, self.sizes[-1] + 1):
            options = []
            for size in self.sizes:
                cost, rest = self._plans[max(0, rows - size)]
                options.append((cost + seconds[size], (size, *rest)))
            self._plans.append(min(options, key=lambda option: (option[0], len(option[1]))))

    def passes(self, rows: int) -> tuple[int, ...]:
        """The cheapest sizes that together hold ``rows`` ≥ 1 rows, largest first; only the last may have padding."""
        full, rest = divmod(rows, self.sizes[-1])
        return self._passes(self.sizes[-1]) * full + self._passes(rest)

    def _passes(self, rows: int) -> tuple[int, ...]:
        return tuple(sorted(self._plans[rows][1], reverse=True))
