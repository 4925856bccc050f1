from __future__ import annotations

import random

import pytest

from service.scheduler.sharing import Sharing
from service.simulation.clock import simulate
from tests.service.scheduler.simulated import World


def test_a_batch_that_runs_alone_has_all_of_its_time() -> None:
    sharing = Sharing()
    sharing.begin("a", 10.0)
    assert sharing.end("a", 12.5) == 2.5
    sharing.begin("b", 100.0)
    assert sharing.end("b", 101.0) == 1.0


def test_time_in_which_two_run_is_half_of_it_each() -> None:
    sharing = Sharing()
    sharing.begin("a", 0.0)
    sharing.begin("b", 2.0)
    assert sharing.end("a", 6.0) == 2.0 + 2.0
    assert sharing.end("b", 7.0) == 2.0 + 1.0


def test_shares_add_up_to_the_time_in_which_anything_ran() -> None:
    generator = random.Random(3)
    intervals = [(start, start + generator.uniform(0.1, 3)) for start in (generator.uniform(0, 20) for _ in range(40))]
    events = sorted((time, ending, number) for number, pair in enumerate(intervals) for ending, time in enumerate(pair))
    sharing, total, busy, running, since = Sharing(), 0.0, 0.0, 0, 0.0
    for time, ending, number in events:
        busy += (time - since) if running else 0.0
        since = time
        running += -1 if ending else 1
        if ending:
            total += sharing.end(number, time)
        else:
            sharing.begin(number, time)
    assert total == pytest.approx(busy)


def test_batches_that_ran_at_once_say_what_they_had_of_the_engine() -> None:
    async def scenario() -> None:
        world = World(concurrency=2)
        # 4.5 s and 1.5 s from the same moment on; then one second alone.
        long, short = world.submit(1.0, t=4), world.submit(2.0, t=1)
        first, second = await long, await short
        assert (first.compute_s, second.compute_s) == (4.5, 1.5)
        assert second.shared_s == pytest.approx(0.75)
        assert first.shared_s == pytest.approx(0.75 + 3.0)
        alone = await world.ask(3.0, t=2)
        assert alone.shared_s == pytest.approx(alone.compute_s)

    simulate(scenario())
