"""Time and signals, as they are outside of simulations."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from loadtest import clock
from loadtest.clock import RealClock
from loadtest.interrupt import Interrupt
from tests.serving import PATIENCE_S


@pytest.mark.parametrize("kind", ["file", "loop"])
def test_an_alarm_rings_when_it_was_set_to_last_and_not_before(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "loop":
        monkeypatch.setattr(clock, "_FileAlarm", _missing)
    wanted: list[float] = []
    rang: list[float] = []

    async def work() -> None:
        real, done = RealClock(), asyncio.Event()

        def then() -> None:
            rang.append(real.now())
            if len(rang) == 2:
                done.set()
            else:
                alarm.at(real.now() - 1)  # has passed: as soon as possible

        alarm = real.alarm(then)
        wanted.append(real.now() + 0.02)
        alarm.at(real.now() + PATIENCE_S)
        alarm.at(wanted[0])
        async with asyncio.timeout(PATIENCE_S):
            await done.wait()
        alarm.at(real.now())
        alarm.close()
        await asyncio.sleep(0.01)

    asyncio.run(work())
    assert len(rang) == 2
    # The loop's own clock may differ by its resolution.
    assert rang[0] >= wanted[0] - (0.002 if kind == "loop" else 0)


def _missing(then: object) -> None:
    raise OSError("no such timers here")


def test_the_first_interrupt_is_a_request_and_the_second_is_meant() -> None:
    # Who starts the tests in the background has them ignore SIGINT.
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    before = signal.getsignal(signal.SIGTERM)
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before
    signal.signal(signal.SIGINT, ignored)
