"""An event loop whose time passes at once."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Leaping(selectors.DefaultSelector):
    """Does not wait for time to pass but says that it has."""

    loop: SimulatedLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing is left that could happen, and something is still waited for")
        self.loop.now += max(0.0, timeout)
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Runs timers in order, each at its own time, without waiting; ``now`` is in seconds, from 0.

    What keeps the loop itself busy says so by `spend`: timers that are due meanwhile are late, as on a real one.

    For code that waits for nothing but timers and futures: no threads, no sockets. Where nothing is left to happen
    and something is still waited for, RuntimeError is raised instead of waiting forever.
    """

    def __init__(self) -> None:
        self.now = self.busy_s = 0.0
        selector = _Leaping()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        """The simulated time."""
        return self.now

    def spend(self, seconds: float) -> None:
        """Be busy for so long."""
        self.now += seconds
        self.busy_s += seconds


def simulate(work: Coroutine[Any, Any, T]) -> T:
    """The result of work on a simulated loop."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(work)
