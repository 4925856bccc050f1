from __future__ import annotations

import threading
from pathlib import Path

import pytest

from models.bundle import Bundle
from service import schemas
from service.app import create_app
from service.settings import Settings
from tests import tiny
from tests.serving import PATIENCE_S, GatedEngine, RunningApp


def test_a_loaded_server_is_alive_and_ready(server: RunningApp) -> None:
    assert schemas.Alive.model_validate(server.get("/livez").json())
    ready = schemas.Ready.model_validate(server.get("/readyz").json())
    assert ready.models == ["tiny/1"]
    assert ready.failed == {}


def test_a_server_that_still_loads_is_alive_but_not_ready_and_says_so(repository: Path) -> None:
    go_on = threading.Event()

    def open_engine(bundle: Bundle) -> GatedEngine:
        assert go_on.wait(PATIENCE_S)
        return GatedEngine(bundle)

    with RunningApp(create_app(Settings(models=(repository,)), open_engine)) as running:
        assert running.get("/livez").status_code == 200
        waiting = running.get("/readyz")
        assert waiting.status_code == 503
        assert "being loaded" in schemas.Problem.model_validate(waiting.json()).detail
        asked = running.post("/v1/models/tiny/classify", json={"instances": tiny.images(1).tolist()})
        assert asked.status_code == 503
        assert asked.headers["retry-after"]
        assert running.get("/v1/models/tiny").status_code == 503
        assert running.get("/v1/models").json() == {"models": [], "failed": {}}
        go_on.set()
        assert running.ready().get("/readyz").status_code == 200


def test_a_model_that_cannot_be_loaded_is_named_and_the_others_serve_on(tmp_path: Path) -> None:
    tiny.write(tmp_path / "good" / "1", name="good")
    tiny.write(tmp_path / "bad" / "1", name="bad")
    (tmp_path / "bad" / "1" / "t1.onnx").write_bytes(b"changed")
    with RunningApp(create_app(Settings(models=(tmp_path,), batch_sizes=(1,), threads=1))) as running:
        running.ready()
        ready = schemas.Ready.model_validate(running.get("/readyz").json())
        assert ready.models == ["good/1"]
        assert "t1.onnx" in ready.failed["bad/1"]
        assert running.get("/v1/models").json()["failed"] == ready.failed
        assert running.metric("lmht_model_ready", model="good", version="1") == 1
        assert running.metric("lmht_model_ready", model="bad", version="1") == 0
        assert running.get("/v1/models/bad").status_code == 503
        body = {"instances": tiny.images(1).tolist()}
        assert running.post("/v1/models/good/classify", json=body).status_code == 200


@pytest.mark.parametrize("broken", [False, True])
def test_without_any_model_the_server_is_never_ready(tmp_path: Path, broken: bool) -> None:
    if broken:
        tiny.write(tmp_path / "bad" / "1", name="bad")
        (tmp_path / "bad" / "1" / "manifest.json").write_text("{}")
    with RunningApp(create_app(Settings(models=(tmp_path,)))) as running:
        running.ready()
        response = running.get("/readyz")
        assert response.status_code == 503
        assert response.headers["content-type"] == "application/problem+json"
        problem = schemas.Problem.model_validate(response.json())
        assert problem.detail == "no model could be loaded"
        assert list(problem.failed or {}) == (["bad/1"] if broken else [])
        assert running.get("/livez").status_code == 200
