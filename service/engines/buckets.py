"""Making up a batch of any size from passes of a few fixed sizes."""

from __future__ import annotations

# What a pass costs besides its rows, in rows; about this on 2 cores, for small 28×28 networks and ResNet-18 alike.
_PASS_COST = 0.5


class Buckets:
    """The sizes in which an engine's passes come, ascending."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self.sizes = sizes
        self._plans: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
        for rows in range(1, sizes[-1] + 1):
            options = []
            for size in sizes:
                cost, rest = self._plans[max(0, rows - size)]
                options.append((cost + size + _PASS_COST, (size, *rest)))
            self._plans.append(min(options, key=lambda option: (option[0], len(option[1]))))

    def passes(self, rows: int) -> tuple[int, ...]:
        """The cheapest sizes that together hold ``rows`` ≥ 1 rows, largest first; only the last may have padding."""
        full, rest = divmod(rows, self.sizes[-1])
        return (self.sizes[-1],) * full + tuple(sorted(self._plans[rest][1], reverse=True))
