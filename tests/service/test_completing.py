"""Engines that serve before all their passes are open."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from models.bundle import Bundle
from service.loading import ServedModel
from service.registry import NotReady, Registry
from tests.serving import PATIENCE_S, GatedEngine


class Growing(GatedEngine):
    """An engine whose largest bucket opens when it is told to, in as many steps."""

    steps = 3

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.batch_sizes = (1,)
        self.asked = threading.Event()
        self.allowed = threading.Semaphore(0)
        self.error_at: Exception | None = None
        self.done = self.calls = 0

    def complete(self, rest: Callable[[float], None] = lambda seconds: None) -> bool:
        self.calls += 1
        if self.batch_sizes != (1,):
            return False
        self.asked.set()
        while self.done < self.steps:
            assert self.allowed.acquire(timeout=PATIENCE_S)
            if self.error_at is not None:
                raise self.error_at
            self.done += 1
            rest(0.25)
        self.batch_sizes = (1, 4)
        return True


class Scene:
    """A registry over one model, with what it tells."""

    def __init__(self, repository: Path) -> None:
        self.engines: list[Growing] = []
        self.completed: list[ServedModel] = []
        self.rested: list[float] = []
        self.registry = Registry(
            (repository,),
            self._open,
            on_complete=lambda model, seconds: self.completed.append(model),
            rest=self.rested.append,
        )
        self.at_once = False

    def _open(self, bundle: Bundle) -> Growing:
        self.engines.append(Growing(bundle))
        if self.at_once:
            self.engines[-1].allowed.release(Growing.steps)
        return self.engines[-1]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():
            await asyncio.sleep(0.001)


async def begun(scene: Scene) -> Growing:
    """Its engine, while it is being completed."""
    await scene.registry.load_all()
    (engine,) = scene.engines
    await until(engine.asked.is_set)
    return engine


def run(scenario: Callable[[Scene], Awaitable[None]], repository: Path) -> None:
    async def test() -> None:
        scene = Scene(repository)
        try:
            await scenario(scene)
        finally:
            for engine in scene.engines:
                engine.allowed.release(Growing.steps)
            scene.registry.stop_loading()
            await scene.registry.close()

    asyncio.run(test())


def test_a_model_serves_before_its_engine_is_complete_and_is_timed_anew_after(repository: Path) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.registry.load_all()
        assert scene.registry.ready
        (first,) = scene.registry.models()
        assert set(first.seconds[1]) == {1}
        (engine,) = scene.engines
        await until(engine.asked.is_set)
        assert not scene.completed
        engine.allowed.release(engine.steps)
        await until(lambda: bool(scene.completed))
        (whole,) = scene.registry.models()
        assert whole is scene.completed[0]
        assert whole.engine is engine
        assert set(whole.seconds[1]) == {1, 4}
        assert scene.rested == [0.25] * engine.steps

    run(scenario, repository)


def test_one_that_takes_the_place_of_another_is_complete_before_it_does(repository: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.at_once = True
        await scene.registry.load("tiny")
        assert [engine.batch_sizes for engine in scene.engines] == [(1, 4)]
        (model,) = scene.registry.models()
        assert set(model.seconds[1]) == {1, 4}

    run(scenario, repository)


def test_one_that_is_unloaded_meanwhile_is_closed_after_the_next_step(repository: Path) -> None:
    async def scenario(scene: Scene) -> None:
        engine = await begun(scene)
        unloading = asyncio.create_task(scene.registry.unload("tiny"))
        await asyncio.sleep(0.02)
        assert not engine.closed  # a graph is being compiled
        engine.allowed.release()
        await unloading
        assert engine.closed
        assert engine.done == 1
        assert not scene.completed

    run(scenario, repository)


def test_a_server_that_stops_does_not_wait_for_more_than_a_step(repository: Path) -> None:
    async def scenario(scene: Scene) -> None:
        engine = await begun(scene)
        scene.registry.stop_loading()
        closing = asyncio.create_task(scene.registry.close())
        await asyncio.sleep(0.02)
        assert not engine.closed
        engine.allowed.release()
        await closing
        assert engine.closed
        assert engine.done == 1
        with pytest.raises(NotReady):
            scene.registry.get("tiny")

    run(scenario, repository)


def test_one_that_cannot_be_completed_serves_on(repository: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.registry.load_all()
        (engine,) = scene.engines
        engine.error_at = MemoryError("no room")
        engine.allowed.release()
        await until(lambda: "goes on being served" in caplog.text)
        assert scene.registry.ready
        assert scene.registry.get("tiny").engine is engine
        assert not engine.closed
        assert not scene.completed

    run(scenario, repository)


def test_loading_again_meanwhile_completes_nothing_twice(repository: Path) -> None:
    async def scenario(scene: Scene) -> None:
        engine = await begun(scene)
        await scene.registry.load_all()
        await asyncio.sleep(0.02)
        assert engine.calls == 1
        engine.allowed.release(engine.steps)
        await until(lambda: bool(scene.completed))
        await until(lambda: engine.calls == 2)  # which finds nothing to do
        assert engine.done == engine.steps
        assert len(scene.completed) == 1

    run(scenario, repository)
