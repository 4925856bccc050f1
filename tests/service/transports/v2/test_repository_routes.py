"""The model repository's routes: the bodies that clients send, and what is answered; loading is the registry's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.app import create_app
from service.settings import Settings
from tests import tiny
from tests.inference import ask, error, fp32
from tests.serving import RunningApp

IMAGES = tiny.images(2)
INDEX = "/v2/repository/index"
LOAD, UNLOAD = "/v2/repository/models/tiny/load", "/v2/repository/models/tiny/unload"
NOT_LOADED = "not loaded"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with ``tiny`` in versions 1 and 2, ``other``, and ``broken``, which cannot be loaded."""
    found = tmp_path_factory.mktemp("repository")
    tiny.write(found / "tiny" / "1")
    tiny.write(found / "tiny" / "2", seed=6)
    tiny.write(found / "other" / "1", name="other")
    tiny.write(found / "broken" / "1", name="broken")
    (found / "broken" / "1" / "t1.onnx").write_bytes(b"changed")
    return found


@pytest.fixture(scope="module")
def app(folder: Path) -> Iterator[RunningApp]:
    settings = Settings(models=(folder,), batch_sizes=(1, 4), threads=1, provider="cpu")
    with RunningApp(create_app(settings)) as opened:
        yield opened.ready()


@pytest.fixture
def running(app: RunningApp) -> Iterator[RunningApp]:
    """With everything loaded, before and after."""
    yield app
    for model in ("tiny", "other"):
        assert app.post(f"/v2/repository/models/{model}/load").status_code == 200


def states(response: httpx.Response) -> dict[str, tuple[str, str]]:
    """What an answer lists: by name and version, state and reason; nothing else stands in it."""
    assert response.status_code == 200, response.text
    entries = response.json()
    for entry in entries:
        assert list(entry) == ["name", "version", "state", "reason"]
    return {f"{entry['name']}/{entry['version']}": (entry["state"], entry["reason"]) for entry in entries}


READY = {"other/1": ("READY", ""), "tiny/1": ("READY", ""), "tiny/2": ("READY", "")}


@pytest.mark.parametrize("body", [b"", b"{}", b'{"ready": false}'])
def test_the_index_lists_every_version_and_why_one_is_not_served(running: RunningApp, body: bytes) -> None:
    found = states(running.post(INDEX, content=body))
    state, reason = found.pop("broken/1")
    assert state == "UNAVAILABLE"
    assert "t1.onnx" in reason
    assert found == READY


def test_the_index_lists_what_is_ready_where_asked_for_that(running: RunningApp) -> None:
    assert states(running.post(INDEX, json={"ready": True})) == READY
    running.post(UNLOAD, json={"parameters": {"version": 1}}).raise_for_status()
    assert list(states(running.post(INDEX, json={"ready": True}))) == ["other/1", "tiny/2"]
    assert states(running.post(INDEX))["tiny/1"] == ("UNAVAILABLE", NOT_LOADED)


# Triton's own client says the last but one; an empty body is what curl sends.
ALL = [
    b"",
    b"{}",
    b'{"parameters": {}}',
    b'{"parameters": {"unload_dependents": false}}',
    b'{"parameters": {"version": null}}',
]


@pytest.mark.parametrize("body", ALL)
def test_a_model_is_unloaded_and_loaded_whole(running: RunningApp, body: bytes) -> None:
    gone = {"tiny/1": ("UNAVAILABLE", NOT_LOADED), "tiny/2": ("UNAVAILABLE", NOT_LOADED)}
    assert states(running.post(UNLOAD, content=body)) == gone
    error(running.get("/v2/models/tiny"), 404)
    assert running.get("/v2/models/other/ready").status_code == 200
    assert states(running.post(LOAD, content=body)) == {"tiny/1": ("READY", ""), "tiny/2": ("READY", "")}
    assert running.get("/v2/models/tiny").json()["versions"] == ["1", "2"]


@pytest.mark.parametrize("version", [2, "2"])
@pytest.mark.parametrize("more", [{}, {"unload_dependents": True}])
def test_one_version_is_unloaded_and_loaded(running: RunningApp, version: int | str, more: dict[str, Any]) -> None:
    def answered() -> str:
        answer = ask(running, fp32(IMAGES))
        seed = {"1": tiny.SEED, "2": 6}[answer.document["model_version"]]
        np.testing.assert_array_equal(answer.outputs["logits"], tiny.reference(IMAGES, 4, seed).logits)
        found: str = answer.document["model_version"]
        return found

    body = {"parameters": {"version": version, **more}}
    gone = {"tiny/1": ("READY", ""), "tiny/2": ("UNAVAILABLE", NOT_LOADED)}
    assert states(running.post(UNLOAD, json=body)) == gone
    assert answered() == "1"
    assert states(running.post(LOAD, json=body)) == {"tiny/1": ("READY", ""), "tiny/2": ("READY", "")}
    assert answered() == "2"


def test_loading_takes_what_has_come_and_lets_go_what_has_gone(running: RunningApp, folder: Path) -> None:
    tiny.write(folder / "tiny" / "3", seed=7)
    assert states(running.post(LOAD))["tiny/3"] == ("READY", "")
    (folder / "tiny" / "3").rename(folder / ".gone")
    assert list(states(running.post(LOAD))) == ["tiny/1", "tiny/2"]
    assert running.get("/v2/models/tiny").json()["versions"] == ["1", "2"]


@pytest.mark.parametrize("media_type", [None, "application/json", "application/x-www-form-urlencoded", "text/plain"])
def test_the_body_is_json_whatever_its_media_type_says(running: RunningApp, media_type: str | None) -> None:
    headers = {"content-type": media_type} if media_type else {}
    body = json.dumps({"parameters": {"version": 1}})
    assert states(running.post(UNLOAD, content=body, headers=headers))["tiny/1"] == ("UNAVAILABLE", NOT_LOADED)


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"{", "the body is not JSON"),
        (b"\xff", "the body is not JSON"),
        (b"[]", "body: input should be"),
        (b"null", "body: input should be"),
        (b'{"ready": false}', "ready: extra inputs are not permitted"),
        (b'{"parameters": null}', "parameters: input should be"),
        (b'{"parameters": []}', "parameters: input should be"),
        (b'{"parameters": {"config": "{}"}}', "parameters.config: extra inputs are not permitted"),
        (b'{"parameters": {"file:1/model.onnx": "AA=="}}', "parameters.file:1/model.onnx: extra inputs are not"),
        (b'{"parameters": {"version": 1.5}}', "parameters.version"),
        (b'{"parameters": {"version": true}}', "parameters.version"),
        (b'{"parameters": {"version": [1]}}', "parameters.version"),
        (b'{"parameters": {"unload_dependents": "no"}}', "parameters.unload_dependents: input should be a valid bool"),
    ],
)
def test_a_body_that_says_anything_else_is_refused(running: RunningApp, body: bytes, part: str) -> None:
    for path in (LOAD, UNLOAD):
        assert part in error(running.post(path, content=body), 400)
    assert states(running.post(INDEX, json={"ready": True})) == READY


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"ready": 1}', b'{"ready": "true"}', b'{"parameters": {}}'])
def test_an_index_is_asked_for_in_no_other_words(running: RunningApp, body: bytes) -> None:
    error(running.post(INDEX, content=body), 400)


@pytest.mark.parametrize("version", [0, 3, "3", -1, "../1", "1/../2", "one", "", " 1", "٣", "9" * 30, 10**18 - 1])
def test_a_version_that_there_is_not_is_a_404(running: RunningApp, version: int | str) -> None:
    for path in (LOAD, UNLOAD):
        assert "version" in error(running.post(path, json={"parameters": {"version": version}}), 404)
    assert states(running.post(INDEX, json={"ready": True})) == READY


@pytest.mark.parametrize(
    "name", ["nope", "..", ".", "...", "tiny ", "%2e%2e", "tiny%2F1", "tiny%00", "x" * 300, "x" * 5000, "%F0%9F%90%9F"]
)
def test_a_model_that_there_is_not_is_a_404(running: RunningApp, name: str) -> None:
    for change in ("load", "unload"):
        text = error(running.post(f"/v2/repository/models/{name}/{change}"), 404)
        assert len(text) < 200
    assert states(running.post(INDEX, json={"ready": True})) == READY


def test_unloading_what_is_not_loaded_is_a_404_and_loading_it_twice_is_none(running: RunningApp) -> None:
    running.post(UNLOAD).raise_for_status()
    assert "'tiny' is not loaded" in error(running.post(UNLOAD), 404)
    assert "is not loaded" in error(running.post(UNLOAD, json={"parameters": {"version": 1}}), 404)
    for _ in range(2):
        assert states(running.post(LOAD)) == {"tiny/1": ("READY", ""), "tiny/2": ("READY", "")}


def test_a_model_that_cannot_be_loaded_is_a_400_that_says_why(running: RunningApp) -> None:
    for body in ({}, {"parameters": {"version": 1}}):
        text = error(running.post("/v2/repository/models/broken/load", json=body), 400)
        assert "broken/1: t1.onnx: its sha256 is not the manifest's" in text
    assert running.get("/v2/health/ready").status_code == 200


@pytest.mark.parametrize("path", [INDEX, LOAD, UNLOAD])
def test_a_body_beyond_64_kib_is_a_413(running: RunningApp, path: str) -> None:
    padding = b" " * (64 * 1024 - 2)
    assert running.post(path, content=b"{}" + padding).status_code == 200
    response = running.post(path, content=b"{}" + padding + b" ")
    assert "the body has more than 65536 bytes" in error(response, 413)
    assert response.headers["connection"] == "close"


def test_a_client_that_goes_away_while_sending_is_no_failure(
    running: RunningApp, caplog: pytest.LogCaptureFixture
) -> None:
    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        pass

    scope = {
        "type": "http",
        "method": "POST",
        "path": INDEX,
        "raw_path": INDEX.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "headers": [],
    }
    running.run(running.app(scope, receive, send))
    assert caplog.text == ""


def test_at_the_end_nothing_is_loaded(folder: Path) -> None:
    with RunningApp(create_app(Settings(models=(folder,), batch_sizes=(1,), threads=1, provider="cpu"))) as opened:
        opened.ready()
        opened.run(opened.services.close())
        assert "stopping" in error(opened.post(LOAD), 503)
