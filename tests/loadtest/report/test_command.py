from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from loadtest.record import Record
from loadtest.report.command import render

APP = typer.Typer()
APP.command()(render)


@pytest.fixture
def path(suite: Record, tmp_path: Path) -> Path:
    found = tmp_path / "record.json"
    suite.write(found)
    return found


def test_reports_are_written_where_they_are_wanted_and_nothing_else_is(path: Path, tmp_path: Path) -> None:
    wanted = {"--html": "page.html", "--csv": "runs.csv", "--pareto": "picture.svg"}
    options = [str(x) for option, name in wanted.items() for x in (option, tmp_path / name)]
    done = CliRunner().invoke(APP, [str(path), *options])
    assert (done.exit_code, done.output) == (0, "")
    starts = [(tmp_path / name).read_text(encoding="utf-8")[:5] for name in wanted.values()]
    assert starts == ["<!doc", "run,s", "<svg "]


def test_without_a_file_it_is_shown(path: Path) -> None:
    done = CliRunner().invoke(APP, [str(path)], env={"COLUMNS": "100"})
    assert done.exit_code == 0
    assert "Client and server" in done.output


def test_what_cannot_be_read_or_drawn_is_said(suite: Record, tmp_path: Path) -> None:
    empty = tmp_path / "empty.json"
    replace(suite, runs=()).write(empty)
    for arguments in ([str(tmp_path / "none.json")], [str(empty), "--pareto", str(tmp_path / "x.svg")]):
        done = CliRunner().invoke(APP, arguments)
        assert done.exit_code == 1
        assert "lmht loadtest report: " in done.output
