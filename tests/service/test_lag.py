"""How late the event loop is, and since when what it reads has been there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from service import lag
from service.lag import Reads
from service.simulation.clock import SimulatedLoop, simulate


def on_a_loop(work: Callable[[SimulatedLoop, Reads], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        await work(loop, Reads(loop.time, lambda: loop.busy_s))

    simulate(run())


def test_what_wakes_the_loop_has_not_waited() -> None:
    async def work(loop: SimulatedLoop, reads: Reads) -> None:
        await asyncio.sleep(5)
        assert reads.since() == 5
        await asyncio.sleep(0.1)
        loop.spend(0.002)  # on that request
        await asyncio.sleep(7)
        assert reads.since() == pytest.approx(loop.now, abs=1e-5)

    on_a_loop(work)


def test_what_a_busy_loop_finds_may_have_come_right_after_its_last_look() -> None:
    async def work(loop: SimulatedLoop, reads: Reads) -> None:
        await asyncio.sleep(5)
        first = reads.since()
        await asyncio.sleep(0)
        loop.spend(0.03)
        assert reads.since() == pytest.approx(first)
        await asyncio.sleep(0)
        loop.spend(0.01)
        assert reads.since() == pytest.approx(loop.now - 0.01)

    on_a_loop(work)


def test_all_reads_of_one_look_have_waited_alike() -> None:
    async def work(loop: SimulatedLoop, reads: Reads) -> None:
        await asyncio.sleep(5)
        first = reads.since()
        for _ in range(3):
            loop.spend(0.001)
            assert reads.since() == first

    on_a_loop(work)


def test_a_loop_that_slept_for_half_of_the_time_makes_it_half_as_likely() -> None:
    async def work(loop: SimulatedLoop, reads: Reads) -> None:
        await asyncio.sleep(5)
        reads.since()
        loop.spend(0.02)
        await asyncio.sleep(0.02)
        assert loop.now - reads.since() == pytest.approx(0.01)

    on_a_loop(work)


def test_a_loop_is_as_late_as_it_was_held_up() -> None:
    async def work(loop: SimulatedLoop, reads: Reads) -> None:
        found: list[float] = []
        task = asyncio.create_task(lag.watch(found.append))
        await asyncio.sleep(0.2)
        loop.spend(0.3)
        await asyncio.sleep(0.4)
        task.cancel()
        assert found == pytest.approx([0.25, 0.0])

    on_a_loop(work)
