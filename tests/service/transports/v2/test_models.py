"""What there is and how it does, as the Open Inference Protocol and Triton's extensions tell it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from models.bundle import Bundle
from service.app import create_app
from service.settings import Settings
from service.transports.v2 import schemas
from tests import tiny
from tests.conftest import Gated
from tests.inference import INFER, Request, as_json, error, fp32, post
from tests.serving import PATIENCE_S, GatedEngine, RunningApp


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[RunningApp]:
    """An app of its own, which has done nothing yet: ``tiny`` in versions 1 and 2."""
    tiny.write(tmp_path / "tiny" / "1")
    tiny.write(tmp_path / "tiny" / "2", seed=6)
    settings = Settings(models=(tmp_path,), batch_sizes=(1, 4), threads=1, max_images=8)
    with RunningApp(create_app(settings)) as running:
        yield running.ready()


def test_the_server_names_itself_its_version_and_what_it_does_beyond_the_protocol(server: RunningApp) -> None:
    found = server.get("/v2")
    assert found.status_code == 200
    assert found.json() == {
        "name": "lmht-serve",
        "version": version("lmht-serve"),
        "extensions": [
            "binary_tensor_data",
            "classification",
            "model_configuration",
            "model_repository",
            "parameters",
            "schedule_policy",
            "statistics",
        ],
    }


METADATA: dict[str, Any] = {
    "name": "tiny",
    "platform": "onnx_onnxv1",
    "inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, 1, 8, 8]}],
    "outputs": [
        {"name": "logits", "datatype": "FP32", "shape": [-1, 3]},
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]},
        {"name": "spikes", "datatype": "FP64", "shape": [-1, 2]},
        {"name": "synops", "datatype": "FP64", "shape": [-1, 2]},
        {"name": "energy_nj", "datatype": "FP64", "shape": [-1]},
    ],
    "parameters": {"timesteps": "1,2,4", "levels": 2},
}


def test_metadata_tell_versions_tensors_and_budgets(server: RunningApp, fresh: RunningApp) -> None:
    for path in ("/v2/models/tiny", "/v2/models/tiny/versions/1"):
        assert server.get(path).json() == METADATA | {"versions": ["1"]}
    for path in ("/v2/models/tiny", "/v2/models/tiny/versions/1", "/v2/models/tiny/versions/2"):
        assert fresh.get(path).json() == METADATA | {"versions": ["1", "2"]}


def test_the_configuration_is_tritons_with_what_there_is_here(server: RunningApp) -> None:
    for path in ("/v2/models/tiny/config", "/v2/models/tiny/versions/1/config"):
        assert server.get(path).json() == {
            "name": "tiny",
            "platform": "onnx_onnxv1",
            "backend": server.get("/v1/models/tiny").json()["engine"],
            "max_batch_size": 8,
            "input": [{"name": "images", "data_type": "TYPE_FP32", "dims": [1, 8, 8]}],
            "output": [
                {"name": "logits", "data_type": "TYPE_FP32", "dims": [3]},
                {"name": "probabilities", "data_type": "TYPE_FP32", "dims": [3]},
                {"name": "spikes", "data_type": "TYPE_FP64", "dims": [2]},
                {"name": "synops", "data_type": "TYPE_FP64", "dims": [2]},
                {"name": "energy_nj", "data_type": "TYPE_FP64", "dims": []},
            ],
            "parameters": {"timesteps": {"string_value": "1,2,4"}, "levels": {"string_value": "2"}},
        }


# --- Health ---------------------------------------------------------------------------------------------------------


def test_a_loaded_server_and_its_models_are_ready(server: RunningApp) -> None:
    assert server.get("/v2/health/live").json() == {"live": True}
    assert server.get("/v2/health/ready").json() == {"ready": True}
    for path in ("/v2/models/tiny/ready", "/v2/models/tiny/versions/1/ready"):
        assert server.get(path).json() == {"name": "tiny", "ready": True}


def test_while_models_are_loaded_it_lives_and_is_not_ready(repository: Path) -> None:
    go_on = threading.Event()

    def open_engine(bundle: Bundle) -> GatedEngine:
        assert go_on.wait(PATIENCE_S)
        return GatedEngine(bundle)

    with RunningApp(create_app(Settings(models=(repository,)), open_engine)) as running:
        assert running.get("/v2/health/live").status_code == 200
        for path in ("/v2/health/ready", "/v2/models/tiny/ready", "/v2/models/tiny", "/v2/models/tiny/stats"):
            waiting = running.get(path)
            assert "being loaded" in error(waiting, 503)
            assert int(waiting.headers["retry-after"]) >= 1
        assert running.get("/v2/models/stats").json() == {"model_stats": []}
        asked = post(running, fp32(tiny.images(1)))
        assert "being loaded" in error(asked, 503)
        assert asked.headers["retry-after"]
        go_on.set()
        assert running.ready().get("/v2/health/ready").status_code == 200


def test_a_model_that_could_not_be_loaded_is_not_ready_and_says_why(tmp_path: Path) -> None:
    tiny.write(tmp_path / "good" / "1", name="good")
    tiny.write(tmp_path / "bad" / "1", name="bad")
    (tmp_path / "bad" / "1" / "t1.onnx").write_bytes(b"changed")
    with RunningApp(create_app(Settings(models=(tmp_path,), batch_sizes=(1,), threads=1))) as running:
        running.ready()
        assert running.get("/v2/health/ready").status_code == 200
        for path in ("/v2/models/bad/ready", "/v2/models/bad/versions/1/ready", "/v2/models/bad"):
            assert "t1.onnx" in error(running.get(path), 503)
        assert "t1.onnx" in error(post(running, fp32(tiny.images(1)), "/v2/models/bad/infer"), 503)


def test_a_server_without_any_model_is_not_ready(tmp_path: Path) -> None:
    with RunningApp(create_app(Settings(models=(tmp_path,)))) as running:
        running.ready()
        assert error(running.get("/v2/health/ready"), 503) == "no model could be loaded"
        assert running.get("/v2/health/live").status_code == 200


def test_a_server_whose_engine_hangs_is_not_ready_until_it_comes_back(gated: Gated) -> None:
    running, engine = gated(engine_timeout_s=0.05)
    engine.gate.clear()
    error(post(running, fp32(tiny.images(1))), 500)
    assert "has not come back" in error(running.get("/v2/health/ready"), 503)
    assert "does not answer" in error(post(running, fp32(tiny.images(1))), 503)
    engine.gate.set()
    running.until(lambda: running.services.scheduler.stalled is None)
    assert running.get("/v2/health/ready").json() == {"ready": True}


# --- Statistics -----------------------------------------------------------------------------------------------------


def statistics(running: RunningApp, path: str = "/v2/models/tiny/versions/2/stats") -> list[schemas.ModelStatistic]:
    response = running.get(path)
    assert response.status_code == 200, response.text
    return schemas.ModelStatisticsList.model_validate(response.json()).model_stats


def test_a_model_that_has_done_nothing_has_zeros_throughout(fresh: RunningApp) -> None:
    (found,) = statistics(fresh)
    assert (found.name, found.version) == ("tiny", "2")
    assert (found.last_inference, found.inference_count, found.execution_count) == (0, 0, 0)
    assert found.batch_stats == []
    for _, duration in found.inference_stats:
        assert (duration.count, duration.ns) == (0, 0)


def test_requests_images_batches_and_failures_are_counted_for_each_version(fresh: RunningApp) -> None:
    for count, path in ((1, INFER), (3, INFER), (3, "/v1"), (8, INFER), (2, "/v2/models/tiny/versions/1/infer")):
        images = tiny.images(count)
        if path == "/v1":  # both APIs come to the same
            body = {"instances": images.tolist()}
            assert fresh.post("/v1/models/tiny/classify", json=body).status_code == 200
        else:
            assert post(fresh, fp32(images), path).status_code == 200
    error(post(fresh, fp32(tiny.images(9))), 413)
    error(post(fresh, as_json("FP32", [1, 1, 8, 8], [2.0] * 64)), 400)
    # What was never a request to the model is no failure of it.
    error(post(fresh, Request(b"{", {})), 400)
    error(post(fresh, fp32(tiny.images(1)), "/v2/models/tiny/versions/3/infer"), 404)

    (second,) = statistics(fresh)
    assert second.inference_count == 1 + 3 + 3 + 8
    assert second.execution_count == 4
    assert {batch.batch_size: batch.compute_infer.count for batch in second.batch_stats} == {1: 1, 3: 2, 8: 1}
    stats = second.inference_stats
    assert stats.success.count == 4
    assert stats.fail.count == 2
    for duration in (stats.queue, stats.compute_input, stats.compute_infer, stats.compute_output):
        assert duration.count == 4
    # All is nanoseconds; what a request took is made up of its parts.
    parts = (stats.queue, stats.compute_input, stats.compute_infer, stats.compute_output)
    assert stats.success.ns == pytest.approx(sum(part.ns for part in parts), rel=0.01)
    assert 0 < sum(batch.compute_infer.ns for batch in second.batch_stats) <= stats.success.ns
    assert 0 < stats.success.ns < PATIENCE_S * 1e9

    (first,) = statistics(fresh, "/v2/models/tiny/versions/1/stats")
    assert (first.version, first.inference_count, first.execution_count) == ("1", 2, 1)
    assert (first.inference_stats.success.count, first.inference_stats.fail.count) == (1, 0)
    assert second.last_inference > 1.7e12  # milliseconds since 1970: 2023 and later
    assert statistics(fresh, "/v2/models/tiny/stats") == statistics(fresh, "/v2/models/stats") == [first, second]


def test_requests_that_share_a_batch_are_one_execution(gated: Gated) -> None:
    running, engine = gated()
    engine.gate.clear()
    one, two = fp32(tiny.images(1)), fp32(tiny.images(2))
    busy = running.begin_post(INFER, content=one.content, headers=one.headers)
    assert engine.entered.wait(PATIENCE_S)
    waiting = [running.begin_post(INFER, content=two.content, headers=two.headers) for _ in range(2)]
    running.until(lambda: running.services.scheduler.queued_images == 4)
    engine.gate.set()
    for each in (busy, *waiting):
        assert each.result(PATIENCE_S).status_code == 200
    (found,) = statistics(running, "/v2/models/tiny/stats")
    assert (found.inference_stats.success.count, found.inference_count, found.execution_count) == (3, 5, 2)
    assert {batch.batch_size: batch.compute_infer.count for batch in found.batch_stats} == {1: 1, 4: 1}


def test_a_deadline_that_passes_and_a_failing_engine_are_failures(gated: Gated) -> None:
    running, engine = gated()
    engine.error = RuntimeError("broken")
    error(post(running, fp32(tiny.images(1))), 500)
    engine.error = None
    engine.gate.clear()
    error(post(running, fp32(tiny.images(1), parameters={"timeout": 20_000})), 504)
    engine.gate.set()
    (found,) = statistics(running, "/v2/models/tiny/stats")
    assert (found.inference_stats.success.count, found.inference_stats.fail.count) == (0, 2)
    assert found.inference_count == 0
    assert found.last_inference == 0
