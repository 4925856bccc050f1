"""What commands are given, and a server for them to ask."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from service.client import Client
from tests.clients import ThroughApp, Time
from tests.drawings import drawn
from tests.serving import RunningApp


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "drawn.png"
    path.write_bytes(drawn(3))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty pictures, some in a folder below, and what is none."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for seed in range(20):
        suffix = "PNG" if seed % 2 else "png"
        (folder / ("more" if seed >= 15 else "") / f"{seed:02}.{suffix}").write_bytes(drawn(seed))
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_text("no picture")
    (folder / "folder.png").mkdir()
    return folder


@pytest.fixture
def by_server(server: RunningApp, monkeypatch: pytest.MonkeyPatch) -> RunningApp:
    """``--url`` asks the app, which takes 8 pictures and 64 KiB at a time."""
    monkeypatch.setattr(
        "service.commands.sources.Client", functools.partial(Client, transport=ThroughApp(server), clock=Time().clock)
    )
    return server
