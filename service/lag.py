"""How late the event loop is: what it does in one go, such as a batch or a large body, holds up everyone else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_EVERY_S = 0.25


async def watch(report: Callable[[float], None]) -> None:
    """Report how late each of a row of timers is, in seconds; until cancelled."""
    clock = asyncio.get_running_loop().time
    while True:
        due = clock() + _EVERY_S
        await asyncio.sleep(_EVERY_S)
        report(max(0.0, clock() - due))


class Reads:
    """Since when what is read has waited to be, at most.

    The loop reads all that has come, then works it off, and only then looks again: what it finds may have come right
    after it had looked before, and has waited for as long as the loop was busy since. The share of that time that it
    slept says how likely it is that somebody woke it, and waited for nothing.

    Args:
        clock: seconds.
        busy: seconds that the loop's thread was busy, as `time.thread_time`.
    """

    def __init__(self, clock: Callable[[], float], busy: Callable[[], float]) -> None:
        self._clock, self._busy = clock, busy
        self._looked, self._busy_then = clock(), busy()
        self._since = self._looked
        self._reading = False

    def since(self) -> float:
        """To be called from the loop with each read; in the clock's seconds."""
        if not self._reading:
            now, busy = self._clock(), self._busy()
            spent_s, passed_s = busy - self._busy_then, now - self._looked
            self._since = now - min(spent_s, spent_s**2 / passed_s) if passed_s > 0 else now
            self._looked, self._busy_then, self._reading = now, busy, True
            asyncio.get_running_loop().call_soon(self._work_off)
        return self._since

    def _work_off(self) -> None:
        """What was read has its turn, and the next read is another look's."""
        self._reading = False
