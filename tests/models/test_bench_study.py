from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from models.bench.study import Study, StudyError
from models.machine import describe_machine

COMMAND = "lmht bench things"
MACHINE = describe_machine(devices=["a GPU, driver 1"])


@dataclass(frozen=True)
class Thing:
    name: str


THINGS = [Thing(name) for name in "abcd"]


def measure(thing: Thing) -> dict[str, Any]:
    return {"found": thing.name.upper()}


def test_a_study_that_was_stopped_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "things.json"
    asked = []

    def counted(thing: Thing) -> dict[str, Any]:
        if thing.name == "c" and "c" not in asked:
            asked.append("c")
            raise KeyboardInterrupt
        asked.append(thing.name)
        return measure(thing)

    with pytest.raises(KeyboardInterrupt):
        Study(path, MACHINE, COMMAND).go_on(THINGS, counted, limit_s=60)
    again = Study(path, MACHINE, COMMAND)
    assert again.missing(THINGS) == THINGS[2:]
    assert again.go_on(THINGS, counted, limit_s=60) == 0
    assert asked == ["a", "b", "c", "c", "d"]
    assert json.loads(path.read_text())["cases"] == {name: {"found": name.upper()} for name in "abcd"}
    assert list(tmp_path.iterdir()) == [path]


def test_no_case_is_begun_once_the_time_is_over(tmp_path: Path) -> None:
    now = [0.0]
    said: list[str] = []

    def slow(thing: Thing) -> dict[str, Any]:
        now[0] += 10
        return measure(thing)

    study = Study(tmp_path / "things.json", MACHINE, COMMAND)
    assert study.go_on(THINGS, slow, limit_s=15, on_case=said.append, clock=lambda: now[0]) == 2
    assert said == ["1/4 a", "2/4 b"]
    assert study.go_on(THINGS, slow, limit_s=15, on_case=said.append, clock=lambda: now[0]) == 0
    assert said[2:] == ["1/2 c", "2/2 d"]


def test_a_file_of_another_gpu_of_another_command_or_of_something_else_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "things.json"
    Study(path, MACHINE, COMMAND).go_on(THINGS[:1], measure, limit_s=60)
    with pytest.raises(StudyError, match=r"measured with a GPU, driver 1.*here is another GPU"):
        Study(path, describe_machine(devices=["another GPU"]), COMMAND)
    with pytest.raises(StudyError, match=r"the schema lmht-bench-things/1, not lmht-bench-others/1"):
        Study(path, MACHINE, "lmht bench others")
    for text in ("{}", "[]", "no"):
        path.write_text(text)
        with pytest.raises(StudyError, match="no file of lmht bench things"):
            Study(path, MACHINE, COMMAND)
