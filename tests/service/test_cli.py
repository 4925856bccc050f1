from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import httpx
import numpy as np
import orjson
import pytest
import typer
from typer.testing import CliRunner

from models.tools import Tools
from service import cli, schemas
from service.app import create_app
from service.client import Client
from service.settings import Settings
from tests import tiny
from tests.images import encode
from tests.serving import RunningApp

COMMANDS = ("serve", "classify", "train", "evaluate", "export", "import", "plot", "bench")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "drawn.png"
    path.write_bytes(encode((tiny.images(1, seed=3)[0, 0] * 255).astype(np.uint8)))
    return path


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module in the place of the one that defines ``train``."""
    module = ModuleType("models.commands.train")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli.app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_help_lists_every_command() -> None:
    code, shown, _ = run("--help")
    assert code == 0
    for name in COMMANDS:
        assert name in shown


def test_help_imports_neither_torch_nor_the_server() -> None:
    heavy = ["torch", "onnx", "numpy.random", "fastapi", "onnxruntime", "models.commands.train", "service.app"]
    program = (
        "import sys; from service import cli\n"
        "try: cli.app(['--help'])\n"
        "except SystemExit: pass\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stderr.strip().splitlines()[-1] in ("[]", "['numpy.random']")  # the bundle format needs numpy


def test_every_mounted_command_is_where_the_table_says() -> None:
    for name in COMMANDS[2:]:
        code, shown, _ = run(name, "--help")
        assert code == 0, name
        assert f" {name} [OPTIONS]" in shown


def test_a_mounted_command_gets_its_arguments_and_its_tools(mounted: ModuleType, repository: Path) -> None:
    seen: list[object] = []

    def train(context: typer.Context, epochs: int = 1) -> None:
        """Train, says the function itself."""
        seen.extend((epochs, context.obj))

    mounted.train = train  # type: ignore[attr-defined]
    assert "Train, says the function itself." in run("train", "--help")[1]
    assert seen == []
    assert run("train", "--epochs", "3")[0] == 0
    epochs, tools = seen
    assert epochs == 3
    assert isinstance(tools, Tools)
    from models import bundle

    engine = tools.open_engine(bundle.load(repository / "tiny" / "1"), threads=1, batch_sizes=(2,), provider="cpu")
    assert engine.batch_sizes == (2,)
    images = tiny.images(2)
    assert np.array_equal(engine.run(images, 4).logits, tiny.reference(images, 4).logits)
    engine.close()


def test_a_group_of_commands_is_mounted_as_one(mounted: ModuleType) -> None:
    group = typer.Typer()

    @group.callback()
    def _top() -> None:
        """Several things."""

    @group.command()
    def one(number: int) -> None:
        print("one", number)

    mounted.train = group  # type: ignore[attr-defined]
    assert run("train", "one", "5")[1] == "one 5\n"


@pytest.mark.parametrize("where", ["import", "call"])
def test_a_missing_extra_is_named_with_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mounted: ModuleType, where: str
) -> None:
    def train() -> None:
        import torch  # noqa: F401

    if where == "call":
        mounted.train = train  # type: ignore[attr-defined]
    else:
        monkeypatch.delitem(sys.modules, mounted.__name__)
    monkeypatch.setitem(sys.modules, "torch", None)  # as where it is not installed
    monkeypatch.setattr(sys, "argv", ["lmht", "train"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert "pip install 'lmht-serve[train]'" in capsys.readouterr().err


def test_another_missing_module_is_no_missing_extra(monkeypatch: pytest.MonkeyPatch, mounted: ModuleType) -> None:
    def train() -> None:
        import no_such_module_anywhere  # type: ignore[import-not-found]  # noqa: F401

    mounted.train = train  # type: ignore[attr-defined]
    monkeypatch.setattr(sys, "argv", ["lmht", "train"])
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        cli.main()


def test_a_picture_is_classified_here(picture: Path, repository: Path) -> None:
    code, shown, _ = run(
        "classify",
        str(picture),
        str(picture),
        "--models",
        str(repository),
        "--timesteps",
        "2",
        "--top-k",
        "2",
        "--json",
    )
    assert code == 0
    answer = schemas.Classification.model_validate_json(shown)
    assert (answer.model, answer.timesteps, len(answer.predictions)) == ("tiny", 2, 2)
    pixels = np.rint(tiny.images(1, seed=3) * 255 - 0.499).astype(np.float32) / 255
    expected = tiny.reference(pixels, 2)
    assert answer.predictions[0].spikes.total == pytest.approx(expected.spikes.sum(), abs=2)
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
        (("--top-k", "0"), "top_k"),
    ],
)
def test_what_the_service_would_refuse_is_refused_here_in_its_words(
    picture: Path, repository: Path, arguments: tuple[str, ...], message: str
) -> None:
    code, _, complaint = run("classify", str(picture), "--models", str(repository), *arguments)
    assert code == 1
    assert message in complaint


def test_a_file_that_is_no_picture_or_not_there_is_refused(tmp_path: Path, repository: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("seven")
    assert "no picture" in run("classify", str(text), "--models", str(repository))[2]
    assert run("classify", str(tmp_path / "none.png"), "--models", str(repository))[0] == 2
    (tmp_path / "empty").mkdir()
    assert "there is no model" in run("classify", str(text), "--models", str(tmp_path / "empty"))[2]


def test_of_many_folders_that_are_no_models_a_few_are_named(picture: Path, tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"folder{number}").mkdir()
    complaint = run("classify", str(picture), "--models", str(tmp_path))[2]
    assert "there is no model; folder0: has no version folder" in complaint
    assert complaint.strip().endswith("and 35 more")


def test_a_server_that_is_not_there_is_a_message(picture: Path) -> None:
    code, _, complaint = run("classify", str(picture), "--url", "http://127.0.0.1:9")
    assert code == 1
    assert "no answer from http://127.0.0.1:9" in complaint
    assert run("classify", str(picture), "--url", "nonsense")[0] == 1


def test_an_unusable_setting_ends_serve_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMHT_QUEUE_CAPACITY", "many")
    code, _, complaint = run("serve", "--port", "0")
    assert code == 1
    assert "LMHT_QUEUE_CAPACITY" in complaint
    assert "/nowhere" in run("serve", "--models", "/nowhere")[2]


class _ThroughApp(httpx.BaseTransport):
    """A client's requests to an app that runs in a thread."""

    def __init__(self, running: RunningApp) -> None:
        self._running = running

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._running.request(
            request.method, str(request.url), headers=dict(request.headers), content=request.read()
        )
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def test_here_and_by_a_server_the_answer_is_the_same(
    server: RunningApp, picture: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.client.Client", lambda url: Client(url, transport=_ThroughApp(server)))
    here = json.loads(run("classify", str(picture), "--models", str(repository), "--json")[1])
    there = json.loads(run("classify", str(picture), "--url", "http://test", "--json")[1])
    for answer in (here, there):
        for changing in ("id", "latency_ms"):
            del answer[changing]
    assert here == there
    code, _, complaint = run("classify", str(picture), "--url", "http://test", "--timesteps", "1025")
    assert code == 1
    assert "Invalid option" in complaint


def test_the_commands_settings_reach_the_server(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Settings] = []
    monkeypatch.setattr("service.server.run", started.append)
    code, _, _ = run(
        "serve", "--models", str(repository), "--models", str(repository.parent), "--host", "::1", "--port", "7"
    )
    assert code == 0
    assert [(s.models, s.host, s.port) for s in started] == [((repository, repository.parent), "::1", 7)]
    assert orjson.loads(orjson.dumps(create_app(started[0]).openapi()))["openapi"].startswith("3.1")
