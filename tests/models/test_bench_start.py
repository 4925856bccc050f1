"""What a start takes: of a live server, and as it is reported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from models.bench.http import start as measured
from models.bench.http.errors import BenchError
from models.bench.http.start import Loaded, Start, Starts
from models.machine import describe_machine
from tests.command_line import run

FOUND = Starts(
    "mine",
    first=Start(2.0, 2.5, 9.0, (Loaded("tiny/1", 8.0, 0.5, 4.0, 1.0),)),
    starts=tuple(Start(1.0 + n, 1.5 + n, 4.0 + n, (Loaded("tiny/1", 3.0 + n, 0.25, 1.0 + n, 0.5),)) for n in range(3)),
)


def test_a_start_of_a_live_server_is_taken_apart(repository: Path, tmp_path: Path) -> None:
    found = measured.start((repository,), tmp_path / "log")
    (model,) = found.models
    assert model.model == "tiny/1"
    assert 0 < found.listening_s < found.alive_s < found.ready_s
    assert found.listening_s < model.at_s < found.ready_s
    assert model.read_s + model.compile_s + model.warm_up_s < model.at_s - found.listening_s


def test_the_first_start_is_not_among_the_counted(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = iter(range(100))
    asked: list[object] = []

    def fake(repositories: object, log: Path) -> Start:
        asked.append(repositories)
        return Start(next(starts), 0.0, 0.0, ())

    monkeypatch.setattr(measured, "start", fake)
    rounds: list[tuple[int, int]] = []
    one, two = (repository,), (tmp_path,)
    found = measured.measure({"one": one, "two": two}, 2, tmp_path, lambda *done: rounds.append(done))
    assert asked == [one, two] * 3  # in turns, so that what the machine does meanwhile falls on both
    assert [(s.name, s.first.listening_s, [each.listening_s for each in s.starts]) for s in found] == [
        ("one", 0, [2, 4]),
        ("two", 1, [3, 5]),
    ]
    assert rounds == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.long
def test_a_model_that_cannot_be_loaded_ends_the_measurement(repository: Path, tmp_path: Path) -> None:
    shutil.copytree(repository / "tiny", tmp_path / "models" / "tiny")
    (tmp_path / "models" / "tiny" / "1" / "t1.onnx").write_bytes(b"broken")
    with pytest.raises(BenchError, match=r"not every model could be loaded.*tiny/1"):
        measured.start((tmp_path / "models",), tmp_path / "log")


def test_a_server_that_does_not_start_ends_it_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"ended with status 1: .*is not a folder"):
        measured.start((tmp_path / "nowhere",), tmp_path / "log")


def test_medians_and_ranges_are_those_of_the_counted_starts() -> None:
    assert FOUND.median_s(lambda start: start.ready_s) == 5.0
    assert FOUND.range_s(lambda start: start.ready_s) == (4.0, 6.0)
    assert FOUND.median_of_s("tiny/1", lambda loaded: loaded.compile_s) == 2.0


def test_the_command_prints_the_figures_and_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "measure", lambda *_: (FOUND,))
    monkeypatch.setenv("LMHT_THREADS", "1")
    monkeypatch.delenv("LMHT_CACHE_DIR")
    monkeypatch.setenv("COLUMNS", "120")
    file = tmp_path / "starts.json"
    status, output, _ = run("bench", "start", "--models", str(tmp_path), "--json", str(file))
    assert status == 0
    for cell in (
        "mine: from the start of the process, 3 starts",
        "5.00 s",
        "9.00 s",
        "tiny/1",
        "2.00 s",
        "LMHT_THREADS=1",
    ):
        assert cell in output
    document = json.loads(file.read_text(encoding="utf-8"))
    assert document["settings"] == {"LMHT_THREADS": "1"}
    assert document["machine"]["cpu"] == describe_machine().cpu
    (starts,) = document["starts"]
    assert starts["first"]["models"][0]["compile_s"] == 4.0
    assert [start["ready_s"] for start in starts["starts"]] == [4.0, 5.0, 6.0]
