from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from service import schemas
from service.client import NO_RETRIES, Client
from tests import tiny
from tests.clients import Server, said
from tests.command_line import run
from tests.drawings import expected
from tests.serving import RunningApp

CLIENT = "service.commands.sources.Client"
SERVER = ("--url", "http://test")


def test_a_picture_is_classified_here(picture: Path, repository: Path) -> None:
    here = ("--models", str(repository), "--timesteps", "2", "--top-k", "2", "--json")
    code, shown, _ = run("classify", str(picture), str(picture), *here)
    assert code == 0
    answer = schemas.Classification.model_validate_json(shown)
    assert (answer.model, answer.timesteps, len(answer.predictions)) == ("tiny", 2, 2)
    assert answer.predictions[0].spikes.total == pytest.approx(expected(3, timesteps=2)[1], abs=2)
    assert len(answer.predictions[0].top_k) == 2


def test_the_table_shows_prediction_spikes_and_energy(picture: Path, repository: Path) -> None:
    code, shown, _ = run("classify", str(picture), "--models", str(repository))
    assert code == 0
    for text in ("tiny/1 at 4 time-steps", "drawn.png", *tiny.CLASSES, *tiny.LAYERS, "nJ", "synaptic operations"):
        assert text in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--timesteps", "0"), "timesteps"),
        (("--model", "nope"), "nope"),
        (("--model", "tiny", "--version", "7"), "7"),
        (("--top-k", "0"), "top_k"),
        (("--min-confidence", "2"), "min_confidence"),
        (("--deadline-ms", "0"), "deadline_ms"),
        (("--energy-profile", "free"), "energy_profile"),
    ],
)
@pytest.mark.parametrize("where", ["here", "there"])
def test_what_the_service_would_refuse_is_refused_in_its_words(
    picture: Path, repository: Path, by_server: RunningApp, arguments: tuple[str, ...], message: str, where: str
) -> None:
    asked = ("--models", str(repository)) if where == "here" else SERVER
    code, shown, complaint = run("classify", str(picture), *asked, *arguments)
    assert (code, shown) == (1, "")
    assert message in complaint
    assert len(complaint.splitlines()) == 1


def test_a_budget_that_is_no_number_is_a_mistake_of_the_command_line(picture: Path) -> None:
    assert run("classify", str(picture), "--timesteps", "many")[0] == 2


def test_a_file_that_is_no_picture_or_not_there_is_refused(tmp_path: Path, repository: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("seven")
    assert "no picture" in run("classify", str(text), "--models", str(repository))[2]
    assert run("classify", str(tmp_path / "none.png"), "--models", str(repository))[0] == 2
    (tmp_path / "empty").mkdir()
    assert "there is no model" in run("classify", str(text), "--models", str(tmp_path / "empty"))[2]
    code, _, complaint = run("classify", str(text), "--models", str(tmp_path / "nowhere"))
    assert code == 1
    assert "LMHT_MODELS" in complaint


def test_of_many_folders_that_are_no_models_a_few_are_named(picture: Path, tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"folder{number}").mkdir()
    complaint = run("classify", str(picture), "--models", str(tmp_path))[2]
    assert "there is no model; folder0: has no version folder" in complaint
    assert complaint.strip().endswith("and 35 more")


def test_a_server_that_is_not_there_is_a_message(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CLIENT, functools.partial(Client, retries=NO_RETRIES))
    code, _, complaint = run("classify", str(picture), "--url", "http://127.0.0.1:9")
    assert code == 1
    assert "no answer from http://127.0.0.1:9" in complaint
    assert run("classify", str(picture), "--url", "nonsense")[0] == 1


def test_here_and_by_a_server_the_answer_is_the_same(by_server: RunningApp, picture: Path, repository: Path) -> None:
    options = ("--timesteps", "auto", "--min-confidence", "0.9", "--energy-profile", "horowitz-45nm-int8", "--json")
    here = json.loads(run("classify", str(picture), "--models", str(repository), *options)[1])
    there = json.loads(run("classify", str(picture), *SERVER, *options)[1])
    assert here["predictions"][0]["energy"]["profile"] == "horowitz-45nm-int8"
    for answer in (here, there):
        for changing in ("id", "latency_ms"):
            del answer[changing]
    assert here == there
    code, _, complaint = run("classify", str(picture), *SERVER, "--timesteps", "1025")
    assert code == 1
    assert "Invalid option" in complaint


def test_the_key_is_sent(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(said(401))
    monkeypatch.setattr(CLIENT, functools.partial(Client, transport=httpx.MockTransport(server)))
    assert run("classify", str(picture), *SERVER, "--model", "m", "--api-key", "lmht_first")[0] == 1
    monkeypatch.setenv("LMHT_API_KEY", "lmht_second")
    assert run("classify", str(picture), *SERVER, "--model", "m")[0] == 1
    assert [request.headers["authorization"] for request in server.requests] == [
        "Bearer lmht_first",
        "Bearer lmht_second",
    ]


def test_asking_a_server_imports_nothing_that_serves() -> None:
    heavy = ("fastapi", "onnxruntime", "PIL", "service.scheduler", "service.handler", "service.settings")
    program = (
        "import sys, service.commands.classify, service.commands.models\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
