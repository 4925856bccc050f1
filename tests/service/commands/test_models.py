from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.app import create_app
from service.client import NO_RETRIES, Client
from service.settings import Settings
from tests import tiny
from tests.clients import Server, ThroughApp, Time, said
from tests.command_line import run
from tests.serving import RunningApp

CLIENT = "service.commands.models.Client"
TOKEN = "a token of the tests"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository with two models that can be served, and one that cannot."""
    tiny.write(tmp_path / "tiny" / "1", budgets=(1, 4))
    tiny.write(tmp_path / "small" / "3", name="small", budgets=(2,))
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1" / "manifest.json").write_text("{}")
    return tmp_path


@pytest.fixture
def app(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningApp]:
    """A server of them, which the command asks instead of any address."""
    settings = Settings(models=(folder,), batch_sizes=(1,), threads=1, admin_token=TOKEN)
    with RunningApp(create_app(settings)) as running:
        monkeypatch.setattr(CLIENT, functools.partial(Client, transport=ThroughApp(running), clock=Time().clock))
        yield running.ready()


def listed(*arguments: str) -> dict[str, dict[str, object]]:
    code, shown, _ = run("models", "list", "--json", *arguments)
    assert code == 0
    return {f"{entry['name']}/{entry['version']}": entry for entry in json.loads(shown)}


def states() -> dict[str, object]:
    return {key: entry["state"] for key, entry in listed().items()}


def test_the_list_has_what_is_served_and_what_is_not(app: RunningApp) -> None:
    found = listed()
    assert list(found) == ["broken/1", "small/3", "tiny/1"]
    assert found["tiny/1"] == {
        "name": "tiny",
        "version": "1",
        "state": "READY",
        "timesteps": [1, 4],
        "classes": 3,
        "reason": "",
    }
    broken = found["broken/1"]
    assert (broken["state"], broken["timesteps"], broken["classes"]) == ("UNAVAILABLE", None, None)
    assert broken["reason"]


def test_without_a_subcommand_models_are_listed_as_a_table(app: RunningApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, shown, _ = run("models")
    assert code == 0
    assert shown == run("models", "list")[1]
    for text in ("name", "version", "state", "budgets", "classes", "reason", "1, 4", "READY", "UNAVAILABLE", "broken"):
        assert text in shown
    assert json.loads(run("models", "--json")[1]) == list(listed().values())


def test_a_model_is_unloaded_and_loaded_again(app: RunningApp) -> None:
    code, shown, _ = run("models", "unload", "tiny", "--token", TOKEN)
    assert code == 0
    assert "UNAVAILABLE" in shown
    assert "small" not in shown
    assert states() == {"broken/1": "UNAVAILABLE", "small/3": "READY", "tiny/1": "UNAVAILABLE"}
    code, shown, _ = run("models", "load", "tiny", "--token", TOKEN)
    assert code == 0
    assert "READY" in shown
    assert "1, 4" in shown
    assert states()["tiny/1"] == "READY"


def test_one_version_is_loaded_and_unloaded(app: RunningApp, folder: Path) -> None:
    tiny.write(folder / "small" / "4", name="small", budgets=(2,))
    tiny.write(folder / "small" / "5", name="small", budgets=(2,))
    assert run("models", "load", "small", "--version", "5", "--token", TOKEN)[0] == 0
    assert run("models", "unload", "small", "--version", "3", "--token", TOKEN)[0] == 0
    assert {key: state for key, state in states().items() if key.startswith("small")} == {
        "small/3": "UNAVAILABLE",
        "small/4": "UNAVAILABLE",
        "small/5": "READY",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("load", "nope", "--token", TOKEN), "nope"),
        (("load", "tiny", "--version", "9", "--token", TOKEN), "9"),
        (("unload", "nope", "--token", TOKEN), "nope"),
        (("load", "broken", "--token", TOKEN), "broken"),
        (("load", "tiny"), "token"),
        (("unload", "tiny", "--token", "a wrong token"), "token"),
        (("load", "tiny", "--token", "wrong-token"), "token"),
    ],
)
def test_what_the_server_refuses_is_one_line(app: RunningApp, arguments: tuple[str, ...], message: str) -> None:
    code, shown, complaint = run("models", *arguments)
    assert (code, shown) == (1, "")
    assert len(complaint.splitlines()) == 1
    assert complaint.startswith("lmht: ")
    assert message in complaint


def test_a_server_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CLIENT, functools.partial(Client, retries=NO_RETRIES))
    code, _, complaint = run("models", "--url", "http://127.0.0.1:9")
    assert code == 1
    assert complaint.startswith("lmht: no answer from http://127.0.0.1:9")
    assert len(complaint.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "variables", "asked", "secret"),
    [
        (("load", "m"), {}, "http://127.0.0.1:8000", None),
        (("load", "m"), {"LMHT_URL": "http://one", "LMHT_ADMIN_TOKEN": "first"}, "http://one", "first"),
        (("--url", "http://two", "--token", "second", "load", "m"), {"LMHT_URL": "http://one"}, "http://two", "second"),
        (
            ("--url", "http://two", "load", "m", "--url", "http://three", "--token", "third"),
            {"LMHT_ADMIN_TOKEN": "first"},
            "http://three",
            "third",
        ),
    ],
)
def test_address_and_token_come_from_before_or_after_the_subcommand_or_the_environment(
    arguments: tuple[str, ...],
    variables: dict[str, str],
    asked: str,
    secret: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server(said(401))
    monkeypatch.setattr(CLIENT, functools.partial(Client, transport=httpx.MockTransport(server)))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert run("models", *arguments)[0] == 1
    (request,) = server.requests
    assert str(request.url) == f"{asked}/v2/repository/models/m/load"
    assert request.headers.get("authorization") == (None if secret is None else f"Bearer {secret}")
