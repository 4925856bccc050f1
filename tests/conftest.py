"""Fixtures that several tests of the service share."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.app import create_app
from service.settings import Settings
from tests import tiny
from tests.serving import GatedApp, GatedEngine, RunningApp

# For tests that import ONNX Runtime themselves: it would report that to its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

CACHE = "LMHT_CACHE_DIR"


def pytest_configure(config: pytest.Config) -> None:
    # What one test has compiled, another need not: nothing of it is left when all are done. Workers inherit it.
    if not hasattr(config, "workerinput"):
        os.environ[CACHE] = tempfile.mkdtemp(prefix="lmht-graphs-")


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop(CACHE), ignore_errors=True)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name == "PORT" or (name.startswith("LMHT_") and name != CACHE):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository folder with the model ``tiny``, version 1."""
    folder = tmp_path_factory.mktemp("repository")
    tiny.write(folder / "tiny" / "1")
    return folder


@pytest.fixture(scope="session")
def server(repository: Path) -> Iterator[RunningApp]:
    """The app with the real engine and `tiny`, for tests that leave nothing behind but counters."""
    settings = Settings(models=(repository,), batch_sizes=(1, 4), threads=1, max_body_bytes=64 * 1024, max_images=8)
    with RunningApp(create_app(settings)) as running:
        yield running.ready()


Gated = Callable[..., tuple[RunningApp, GatedEngine]]


@pytest.fixture
def gated(repository: Path) -> Iterator[Gated]:
    """Makes an app of its own around an engine that a test can hold up."""
    opened: list[tuple[RunningApp, GatedApp]] = []

    def make(**settings: Any) -> tuple[RunningApp, GatedEngine]:
        factory = GatedApp()
        # Engines that wait for the test must not do so on the event loop.
        settings = {"inline_ms": 0} | settings
        app = create_app(Settings(models=(repository,), **settings), factory.open_engine)
        running = RunningApp(app)
        opened.append((running, factory))
        running.__enter__()
        running.ready()
        factory.engine.entered.clear()
        factory.engine.images_run = 0
        return running, factory.engine

    yield make
    for running, factory in opened:
        factory.engine.gate.set()
        running.__exit__(None, None, None)
