"""Engines that are opened while what serves is still being imported."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from models import bundle
from models.bundle import Bundle
from service import ahead as module
from service.ahead import Ahead
from service.engines import EngineOptions
from service.settings import Settings
from tests import tiny
from tests.serving import PATIENCE_S, GatedEngine


class Opener:
    """In place of `open_engine`: holds at a gate, and fails where it is told to."""

    def __init__(self) -> None:
        self.engines: list[GatedEngine] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.broken = False

    def __call__(self, opened: Bundle, options: EngineOptions) -> GatedEngine:
        self.entered.set()
        assert self.gate.wait(PATIENCE_S)
        if self.broken:
            raise RuntimeError("broken")
        self.engines.append(GatedEngine(opened))
        return self.engines[-1]


@pytest.fixture
def opener(monkeypatch: pytest.MonkeyPatch) -> Iterator[Opener]:
    made = Opener()
    monkeypatch.setattr(module, "open_engine", made)
    yield made
    made.gate.set()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("first", "second"):
        tiny.write(tmp_path / name / "1", name=name)
    return tmp_path


def load(folder: Path, name: str) -> Bundle:
    return bundle.load(folder / name / "1")


def test_engines_are_there_for_who_asks_once(folder: Path, opener: Opener) -> None:
    with Ahead(Settings(models=(folder,))) as ahead:
        engines = [ahead.take(load(folder, name)) for name in ("first", "second")]
        assert engines == opener.engines
        assert len(engines) == 2
        assert ahead.take(load(folder, "first")) is None
    assert not any(engine.closed for engine in opener.engines)


def test_what_nobody_took_is_closed(folder: Path, opener: Opener) -> None:
    with Ahead(Settings(models=(folder,))) as ahead:
        taken = ahead.take(load(folder, "second"))
    assert [engine.closed for engine in opener.engines] == [True, False]
    assert taken is opener.engines[1]


def test_a_bundle_that_changed_meanwhile_is_opened_again(folder: Path, opener: Opener) -> None:
    with Ahead(Settings(models=(folder,))) as ahead:
        while len(opener.engines) < 2:
            assert opener.entered.wait(PATIENCE_S)
        shutil.rmtree(folder / "first")
        tiny.write(folder / "first" / "1", name="first", budgets=(2,))
        assert ahead.take(load(folder, "first")) is None
        assert opener.engines[0].closed


def test_what_fails_is_left_to_who_asks(folder: Path, opener: Opener) -> None:
    opener.broken = True
    (folder / "second" / "1" / bundle.MANIFEST).write_text("{")
    with Ahead(Settings(models=(folder,))) as ahead:
        assert ahead.take(load(folder, "first")) is None


def test_the_end_does_not_wait_for_what_was_not_begun(folder: Path, opener: Opener) -> None:
    opener.gate.clear()
    ahead = Ahead(Settings(models=(folder,)))
    assert opener.entered.wait(PATIENCE_S)
    ahead.close()
    assert ahead.take(load(folder, "second")) is None
    opener.gate.set()
    ahead._pool.shutdown(wait=True)
    assert [(engine.manifest.name, engine.closed) for engine in opener.engines] == [("first", True)]


def test_on_a_gpu_nothing_is_opened_ahead(folder: Path, opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with Ahead(Settings(models=(folder,), device="cuda")) as ahead:
        assert ahead.take(load(folder, "first")) is None
    assert not opener.entered.is_set()
