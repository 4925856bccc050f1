"""The signals that end a process, and processes that a signal ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# The number of a container's first process, and what a shell adds to a signal that ended one.
_FIRST, _SIGNALLED = 1, 128


def ended(process: int, status: int) -> str:
    """How a process ended, in words."""
    return f"process {process} ended " + (
        f"by {signal.Signals(-status).name}" if status < 0 else f"with the status {status}"
    )


def die_of(number: int) -> None:
    """End this process by a signal, so that whoever waits for it sees that."""
    signal.signal(number, at_once())
    os.kill(os.getpid(), number)


def at_once() -> Callable[[int, FrameType | None], None] | signal.Handlers:
    """What a signal does to a process that is to end by it.

    By default the system ends it even where the program is stuck; but not a container's first process, to which no
    signal is sent that it has no handler for.
    """
    return signal.SIG_DFL if os.getpid() != _FIRST else lambda number, _: os._exit(_SIGNALLED + number)
