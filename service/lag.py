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
