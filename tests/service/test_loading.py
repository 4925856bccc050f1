from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from models.bundle import Bundle
from service.loading import Users, rest
from service.registry import NotReady, Registry
from tests.serving import GatedEngine

NAP_S, QUIET_S = 0.002, 0.010


def rested(seconds: float, activity: Callable[[], int]) -> float:
    naps: list[float] = []
    rest(seconds, activity, naps.append)
    return sum(naps)


def test_a_server_that_has_requests_rests_as_long_as_it_was_kept_from_them() -> None:
    requests: Iterator[int] = count()
    assert rested(0.25, lambda: next(requests)) == pytest.approx(0.25, abs=NAP_S)


def test_one_that_has_none_goes_on_soon() -> None:
    assert rested(0.25, lambda: 7) == pytest.approx(QUIET_S, abs=NAP_S)
    assert rested(0.003, lambda: 7) == pytest.approx(0.004)


def test_one_that_becomes_quiet_goes_on_then() -> None:
    seen = iter([0, 1, 2, 3, *[3] * 100])
    assert rested(0.25, lambda: next(seen)) == pytest.approx(3 * NAP_S + QUIET_S, abs=NAP_S)


def test_users_are_gone_when_the_last_one_is() -> None:
    async def scenario() -> None:
        users = Users()
        await users.gone()
        with users:
            with users:
                waiting = asyncio.create_task(users.gone())
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not waiting.done()
        await waiting
        with pytest.raises(KeyError), users:
            raise KeyError
        await users.gone()

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_a_model_that_is_being_loaded_when_the_server_stops_is_closed_and_not_served(repository: Path) -> None:
    made: list[GatedEngine] = []

    def open_engine(opened: Bundle) -> GatedEngine:
        made.append(GatedEngine(opened))
        made[-1].gate.clear()
        return made[-1]

    async def test() -> None:
        registry = Registry((repository,), open_engine)
        loading = asyncio.create_task(registry.load_all())
        while not (made and made[0].entered.is_set()):
            await asyncio.sleep(0.001)
        registry.stop_loading()
        made[0].gate.set()
        await loading
        assert made[0].closed
        assert made[0].images_run == made[0].batch_sizes[0]  # the run that was under way, and no other
        assert not registry.models()
        assert not registry.failures
        with pytest.raises(NotReady, match="stopping"):
            await registry.load("tiny")
        assert len(made) == 1
        await registry.close()

    asyncio.run(test())
