"""The command that compares two files, as continuous integration calls it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from loadtest.record import Attempt, Peak, Record, read
from loadtest.report import compare
from tests.loadtest.report.repeated import record

APP = typer.Typer()
APP.command()(compare.command)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    made: dict[str, Record] = {
        "a": record(np.random.default_rng(1)),
        "same": record(np.random.default_rng(2)),
        "slow": record(np.random.default_rng(3), slower=1.5),
        "fast": record(np.random.default_rng(4), slower=0.5),
    }
    made["invalid"] = replace(
        made["same"], runs=(replace(made["same"].runs[0], invalid=("busy",)), *made["same"].runs[1:])
    )
    made["hostile"] = replace(made["slow"], runs=tuple(replace(r, name="[red]\x1b[31m") for r in made["slow"].runs))
    paths = {name: tmp_path / f"{name}.json" for name in made}
    for name, content in made.items():
        content.write(paths[name])
    return paths


def run(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(APP, [str(each) for each in arguments], env={"COLUMNS": "100", "NO_COLOR": "1"})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("b", "status", "said"),
    [
        ("same", 0, "NO DIFFERENCE"),
        ("slow", 1, "WORSE (slower)"),
        ("fast", 0, "BETTER (faster)"),
        ("invalid", 2, "INCOMPLETE"),
        ("hostile", 2, "UNUSABLE"),
    ],
)
def test_the_exit_status_says_what_the_last_line_does(files: dict[str, Path], b: str, status: int, said: str) -> None:
    code, output = run(files["a"], files[b])
    assert code == status
    assert output.splitlines()[-1].startswith(said)
    assert all(len(line) <= 100 for line in output.splitlines())


def test_a_figure_has_both_values_the_change_and_its_interval(files: dict[str, Path]) -> None:
    _, output = run(files["a"], files["slow"])
    lines = output.splitlines()
    at = lines.index(next(line for line in lines if line.startswith("All runs together")))
    p50 = lines[at + 1].split()
    assert p50[:2] == ["p50,", "ms"]
    a, b, change = (float(x.strip("%")) for x in p50[2:5])
    assert b / a - 1 == pytest.approx(change / 100, abs=0.01)
    assert p50[-1] == "slower"


def test_peaks_warnings_and_what_was_not_judged_are_told(files: dict[str, Path], tmp_path: Path) -> None:
    tried = (Attempt(800, True, "x"), Attempt(1000, False, "y"))
    peak = Peak("numbers", "4", "p99 ≤ 50 ms", 800, True, "x", tried)
    a, b = read(files["a"]), read(files["same"])
    searched = replace(a.runs[0], name="numbers at 800/s", scenario="find-peak")
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    replace(a, peaks=(peak,), runs=(*a.runs, searched)).write(before)
    lower = replace(peak, rate=400.0, attempts=(Attempt(400, True, "x"), Attempt(500, False, "y")))
    replace(b, peaks=(lower,), machine=replace(b.machine, cpu="Another")).write(after)
    code, output = run(before, after)
    assert code == 0
    assert "warning: another processor: A Processor against Another" in output
    (line,) = [line for line in output.splitlines() if line.strip().startswith("numbers T=4")]
    assert line.split()[-7:] == ["800", "–", "1,000", "400", "–", "500", "0.500"]
    assert "not judged: 1 run at rates that a search chose" in output
    missing = tmp_path / "missing.json"
    replace(b, runs=b.runs[1:]).write(missing)
    assert "not judged: run 0: only in a" in run(files["a"], missing)[1]


def test_figures_that_may_be_noise_are_shown_when_asked_for(files: dict[str, Path]) -> None:
    _, few = run(files["a"], files["same"])
    _, every = run(files["a"], files["same"], "--all")
    assert "left out" in few
    assert "left out" not in every
    assert every.count("noise") > few.count("noise")


def test_a_tolerance_is_a_percentage(files: dict[str, Path]) -> None:
    assert run(files["a"], files["slow"], "--tolerance", "200%")[0] == 2
    assert run(files["a"], files["slow"], "--tolerance", "90 %")[0] == 0
    assert run(files["a"], files["slow"], "--tolerance", "5")[0] == 1
    assert run(files["a"], files["slow"], "--tolerance", "little")[0] == 2


def test_what_is_no_record_is_said_to_be_none(files: dict[str, Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("{}", encoding="utf-8")
    for path in (bad, tmp_path / "missing.json"):
        code, output = run(files["a"], path)
        assert code == 2
        assert "lmht loadtest compare: " in output


def test_a_name_can_neither_colour_the_terminal_nor_steer_it(files: dict[str, Path]) -> None:
    code, output = run(files["hostile"], files["hostile"], "--all")
    assert code == 0
    assert "[red]\N{REPLACEMENT CHARACTER}[31m" in output
    assert "\x1b" not in output
