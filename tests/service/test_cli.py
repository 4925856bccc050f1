from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import orjson
import pytest
import typer

from models.tools import Tools
from service import cli
from service.app import create_app
from service.settings import Settings
from tests import tiny
from tests.command_line import run

COMMANDS = ("serve", "classify", "models", "train", "evaluate", "export", "import", "plot", "bench")


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module in the place of the one that defines ``train``."""
    module = ModuleType("models.commands.train")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


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
    for name in COMMANDS[1:]:
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


def test_an_unusable_setting_ends_serve_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMHT_QUEUE_CAPACITY", "many")
    code, _, complaint = run("serve", "--port", "0")
    assert code == 1
    assert "LMHT_QUEUE_CAPACITY" in complaint
    assert "/nowhere" in run("serve", "--models", "/nowhere")[2]


def test_the_commands_settings_reach_the_server(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Settings] = []
    monkeypatch.setattr("service.server.run", started.append)
    code, _, _ = run(
        "serve", "--models", str(repository), "--models", str(repository.parent), "--host", "::1", "--port", "7"
    )
    assert code == 0
    assert [(s.models, s.host, s.port) for s in started] == [((repository, repository.parent), "::1", 7)]
    assert orjson.loads(orjson.dumps(create_app(started[0]).openapi()))["openapi"].startswith("3.1")


def test_commands_of_the_service_are_not_listed_as_those_of_models() -> None:
    shown = run("--help")[1]
    before, _, after = shown.partition("─ Models ")
    for name in ("serve", "classify", "models", "simulate"):
        assert f"│ {name} " in before
    assert "│ train " in after
