from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.bundle import Bundle, Engine
from service import engines
from service.client import ProblemError
from service.local import Local
from service.settings import Settings
from tests import tiny
from tests.images import encode


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of three models the first by name cannot be loaded."""
    (tmp_path / "broken" / "1").mkdir(parents=True)
    for name in ("fine", "other"):
        tiny.write(tmp_path / name / "1", name=name)
    return tmp_path


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models whose engines were opened, in their order, and ``-name`` for each that was closed."""
    names: list[str] = []
    open_engine = engines.open_engine

    def note(bundle: Bundle, *arguments: Any) -> Engine:
        engine = open_engine(bundle, *arguments)
        name, close = bundle.manifest.name, engine.close
        names.append(name)

        def note_close() -> None:
            names.append(f"-{name}")
            close()

        monkeypatch.setattr(engine, "close", note_close)
        return engine

    monkeypatch.setattr(engines, "open_engine", note)
    return names


def local(folder: Path) -> Local:
    return Local(Settings(models=(folder,), batch_sizes=(1,), threads=1))


PICTURE = encode((tiny.images(1)[0, 0] * 255).astype("uint8"))


def test_the_first_model_that_can_be_loaded_is_the_only_one_opened(folder: Path, opened: list[str]) -> None:
    with local(folder) as here:
        assert [model.name for model in here.models().models] == ["fine"]
        assert list(here.models().failed) == ["broken/1"]
        assert here.classify("fine", [PICTURE]).model == "fine"
        assert opened == ["fine"]
    assert opened == ["fine", "-fine"]


def test_a_model_that_is_asked_is_opened_once(folder: Path, opened: list[str]) -> None:
    with local(folder) as here:
        answers = [here.classify("other", [PICTURE, PICTURE], version=1, include_input=True) for _ in range(3)]
        assert here.classify("fine", [PICTURE], id="mine", timesteps="auto").id == "mine"
        assert opened == ["other", "fine"]
        assert [model.name for model in here.models().models] == ["fine", "other"]
    assert {len(answer.predictions) for answer in answers} == {2}
    assert all(prediction.input for prediction in answers[0].predictions)
    assert sorted(opened[2:]) == ["-fine", "-other"]


def test_where_no_model_can_be_loaded_the_reasons_are_told(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing" / "notes").mkdir(parents=True)
    with local(tmp_path / "nothing") as here:
        found = here.models()
    assert found.models == []
    assert list(found.failed) == ["notes"]


def test_what_a_server_would_refuse_is_the_same_error_here(folder: Path) -> None:
    with local(folder) as here:
        with pytest.raises(ProblemError, match="404 Unknown model: there is no model 'nope'"):
            here.classify("nope", [PICTURE])
        with pytest.raises(ProblemError) as error:
            here.classify("fine", [PICTURE], timesteps=0, top_k=0)
        problem = error.value.problem
        assert (problem.status, problem.type) == (422, "urn:problem-type:lmht:invalid-option")
        assert [each.option for each in problem.errors or ()] == ["timesteps", "top_k"]
        with pytest.raises(ProblemError, match="400 The picture cannot be read"):
            here.classify("fine", [b"no picture"])
