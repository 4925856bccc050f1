"""A live server over a repository in which nearly everything is broken."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import onnx
import pytest
from onnx import TensorProto

from tests import tiny
from tests.live import Process, running
from tests.serving import PATIENCE_S


def broken_manifest(path: Path) -> None:
    (path / "manifest.json").write_text("{")


def manifest_of_another_kind(path: Path) -> None:
    document = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(document | {"schema_version": 99}))


def file_outside(path: Path) -> None:
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text.replace('"t1.onnx"', '"../1/t1.onnx"'))


def wrong_hash(path: Path) -> None:
    graph = path / "t2.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")


def missing_file(path: Path) -> None:
    (path / "t4.onnx").unlink()


def link_outside(path: Path) -> None:
    outside = path.parents[2] / "outside.onnx"
    outside.write_bytes((path / "t1.onnx").read_bytes())
    (path / "t1.onnx").unlink()
    (path / "t1.onnx").symlink_to(outside)


def external_data(path: Path) -> None:
    """A graph whose weights stand in a file outside of the repository; its own hash is right."""
    weights = path.parents[2] / "weights.bin"
    weights.write_bytes(bytes(4096))
    model = tiny.graph(1)
    constant = next(c for c in model.graph.initializer if len(c.raw_data) > 64)
    length = len(constant.raw_data)
    constant.ClearField("raw_data")
    constant.data_location = TensorProto.EXTERNAL
    for key, value in {"location": f"../../../{weights.name}", "offset": "0", "length": str(length)}.items():
        constant.external_data.append(onnx.StringStringEntryProto(key=key, value=value))
    tiny.write(path, name=path.parent.name, graphs={1: model.SerializeToString()})


BREAKAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "manifest": (broken_manifest, "manifest.json"),
    "schema": (manifest_of_another_kind, "schema_version"),
    "traversal": (file_outside, "manifest.json"),
    "hash": (wrong_hash, "t2.onnx: its sha256 is not the manifest's"),
    "missing": (missing_file, "t4.onnx: missing"),
    "link": (link_outside, "t1.onnx: missing, or not a plain file"),
    "external": (external_data, "t1.onnx: ONNX Runtime cannot use it"),
}


@pytest.fixture(scope="module", params=["openvino", "cpu"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    repository = tmp_path_factory.mktemp("parent") / "repository"
    tiny.write(repository / "good" / "1", name="good")
    for name, (damage, _) in BREAKAGES.items():
        tiny.write(repository / name / "1", name=name)
        damage(repository / name / "1")
    elsewhere = repository.parent / "elsewhere"
    tiny.write(elsewhere / "1", name="moved")
    (repository / "moved").mkdir()
    (repository / "moved" / "1").symlink_to(elsewhere / "1")
    tiny.write(repository / "good" / "..%2f1", name="good")
    with running(repository, LMHT_PROVIDER=request.param) as process:
        yield process


@pytest.fixture(scope="module")
def client(server: Process) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as opened:
        yield opened


def test_each_is_refused_with_a_reason_and_the_good_one_serves(client: httpx.Client) -> None:
    reasons = {name: text for name, (_, text) in BREAKAGES.items()} | {"moved": "a link that leads out"}
    index = {(entry["name"], entry["version"]): entry for entry in client.post("/v2/repository/index").json()}
    assert index.keys() == {(name, "1") for name in (*reasons, "good")} | {("good", "..%2f1")}
    failed = client.get("/readyz").json()["failed"]
    for name, text in reasons.items():
        entry = index[name, "1"]
        assert entry["state"] == "UNAVAILABLE"
        assert text in entry["reason"], name
        assert failed[f"{name}/1"] == entry["reason"]
    assert "not a version" in index["good", "..%2f1"]["reason"]
    assert index["good", "1"] == {"name": "good", "version": "1", "state": "READY", "reason": ""}
    images = tiny.images(2)
    answer = client.post("/v1/models/good/classify", json={"instances": images.tolist(), "timesteps": 2})
    counts = [prediction["spikes"]["total"] for prediction in answer.json()["predictions"]]
    assert counts == tiny.reference(images, 2).spikes.sum(1).tolist()


@pytest.mark.parametrize("name", [*BREAKAGES, "moved"])
def test_loading_it_again_says_why_not_and_changes_nothing(client: httpx.Client, name: str) -> None:
    text = BREAKAGES[name][1] if name in BREAKAGES else "a link that leads out"
    refused = client.post(f"/v2/repository/models/{name}/load")
    assert refused.status_code == 400
    assert text in refused.json()["error"]
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v1/models/good").status_code == 200


@pytest.mark.parametrize("version", ["../1", "..", "1/../1", "%2e%2e/1", "-1", "1e0", "one"])
def test_a_version_that_is_no_number_leads_nowhere(client: httpx.Client, version: str) -> None:
    for change in ("load", "unload"):
        answer = client.post(f"/v2/repository/models/good/{change}", json={"parameters": {"version": version}})
        assert (answer.status_code, list(answer.json())) == (404, ["error"])
    quoted = version.replace("%", "%25").replace("/", "%2F").replace("..", "%2E%2E")
    assert client.get(f"/v2/models/good/versions/{quoted}").status_code == 404
    assert client.post("/v2/repository/models/..%2Fgood/load").status_code == 404
    assert client.get("/v2/models/good").status_code == 200
