"""What a client has to know of a model."""

from __future__ import annotations

from dataclasses import dataclass

from loadtest.errors import LoadTestError
from loadtest.record import ModelCard


@dataclass(frozen=True)
class Model:
    """What it takes to ask a model and to check its answers; budgets ascend."""

    name: str
    classes: tuple[str, ...]
    channels: int
    height: int
    width: int
    budgets: tuple[int, ...]
    card: ModelCard

    def budget(self, timesteps: int) -> int:
        """The budget that a request for so many time-steps gets. Raises LoadTestError below the smallest."""
        found = [budget for budget in self.budgets if budget <= timesteps]
        if not found:
            raise LoadTestError(
                f"{self.name} has no budget of {timesteps}; there are {', '.join(map(str, self.budgets))}"
            )
        return found[-1]
