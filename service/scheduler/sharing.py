"""How much of the engines' time each batch had, where several ran at once."""

from __future__ import annotations

from collections.abc import Hashable


class Sharing:
    """Divides each moment among the batches that run in it: of n at once, a second is worth a nth of it to each.

    So what all batches had adds up to the time in which anything ran. Times are of one clock, and never go back.
    """

    def __init__(self) -> None:
        self._share_s = 0.0  # what a batch would have had that ran all along
        self._until = 0.0
        self._begun: dict[Hashable, float] = {}

    def begin(self, batch: Hashable, now: float) -> None:
        """A batch runs from now on."""
        self._advance(now)
        self._begun[batch] = self._share_s

    def end(self, batch: Hashable, now: float) -> float:
        """A batch has run; the seconds that it had."""
        self._advance(now)
        return self._share_s - self._begun.pop(batch)

    def _advance(self, now: float) -> None:
        if self._begun:
            self._share_s += (now - self._until) / len(self._begun)
        self._until = now
