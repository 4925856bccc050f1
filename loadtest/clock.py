"""Time, as the driver of a load test reads it and waits for it; tests put a simulated one in its place.

An event loop's own timers round to a millisecond, which is longer than a small model takes. Linux wakes by the
nanosecond through a file that becomes readable; elsewhere the loop's timers have to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import Protocol

_CLOCK_MONOTONIC, _ABSOLUTE = 1, 1
_NONBLOCK, _CLOSE_ON_EXEC = 0o4000, 0o2000000


class Alarm(Protocol):
    """Calls a function once, at the time that was set last."""

    def at(self, when: float) -> None:
        """Set it; a time that has passed is as soon as possible."""

    def close(self) -> None:
        """Never call again."""


class Clock(Protocol):
    """Seconds that never go back, and alarms on them."""

    def now(self) -> float:
        """The time."""

    def alarm(self, then: Callable[[], None]) -> Alarm:
        """An alarm that calls ``then``; not set yet."""


class RealClock:
    """`time.monotonic`, which all processes of a machine share, for the event loop that runs."""

    now = staticmethod(time.monotonic)

    def alarm(self, then: Callable[[], None]) -> Alarm:
        """See `Clock`."""
        with contextlib.suppress(OSError, AttributeError):
            return _FileAlarm(then)
        return _LoopAlarm(then)


class _FileAlarm:
    """A timer of Linux as a file; raises OSError or AttributeError where there are none."""

    def __init__(self, then: Callable[[], None]) -> None:
        if sys.platform != "linux":
            raise OSError("only Linux has these timers")
        self._set = _libc().timerfd_settime
        self._file = _libc().timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK | _CLOSE_ON_EXEC)
        if self._file < 0:
            raise OSError(ctypes.get_errno(), "no timer")
        self._then = then
        self._spec = (ctypes.c_long * 4)()  # interval and first time, in seconds and nanoseconds each
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._file, self._rung)

    def at(self, when: float) -> None:
        # All zeroes would switch it off.
        nanoseconds = max(1, int(when * 1e9))
        self._spec[2], self._spec[3] = divmod(nanoseconds, 1_000_000_000)
        self._set(self._file, _ABSOLUTE, self._spec, None)

    def close(self) -> None:
        self._loop.remove_reader(self._file)
        os.close(self._file)

    def _rung(self) -> None:
        try:
            os.read(self._file, 8)
        except BlockingIOError:  # it was set anew since it rang
            return
        self._then()


class _LoopAlarm:
    """A timer of the event loop."""

    def __init__(self, then: Callable[[], None]) -> None:
        self._then = then
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.Handle | None = None

    def at(self, when: float) -> None:
        self.close()
        self._handle = self._loop.call_later(max(0.0, when - time.monotonic()), self._then)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
