"""The GPU's measured energy in the native API's answers; the GPU is one that draws what it is told to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service import meter as metering
from service.app import create_app
from service.client import Classification
from service.meter import GpuMeter
from service.settings import Settings
from tests import tiny
from tests.gpus import DrawingGpu
from tests.serving import RunningApp

CLASSIFY = "/v1/models/tiny/classify"
GPU_METRICS = {
    "lmht_gpu_energy_joules_total": 12.5,
    "lmht_gpu_power_watts": 100,
    "lmht_gpu_memory_bytes": 1000,
    "lmht_gpu_memory_limit_bytes": 4000,
    "lmht_gpu_reserved_bytes": 300,
    "lmht_gpu_utilization_ratio": 0.5,
}


@pytest.fixture
def gpu() -> DrawingGpu:
    return DrawingGpu()


@pytest.fixture
def measured(repository: Path, gpu: DrawingGpu, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningApp]:
    monkeypatch.setattr(metering, "_LEAST_WINDOW_S", 0.05)
    settings = Settings(models=(repository,), batch_sizes=(1, 4), threads=1)
    meter = GpuMeter(lambda: gpu)
    with RunningApp(create_app(settings, meter=meter)) as running:
        running.until(lambda: meter.unavailable is None)
        yield running.ready()


def ask(running: RunningApp, images: int = 3, **options: Any) -> dict[str, Any]:
    body = {"instances": tiny.images(images, seed=5).tolist(), **options}
    document: dict[str, Any] = running.post(CLASSIFY, json=body).raise_for_status().json()
    Classification.model_validate(document)
    return document


def test_an_image_has_its_share_of_what_the_gpu_drew_while_its_batch_ran(measured: RunningApp) -> None:
    document = ask(measured, include=["measured"], timesteps=4)
    found = document["measured_energy"]
    assert found["gpu"] == "a GPU, driver 1"
    assert found["counter"] == "nvml-total-energy"
    assert found["mean_power_w"] == pytest.approx(100, rel=0.1)
    assert found["window_s"] >= 0.05
    # Millijoules from watts and milliseconds; three images shared the batch, which ran alone.
    compute_ms, batch = document["latency_ms"]["compute"], document["batch_size"]
    assert found["images_mj"] == pytest.approx([found["mean_power_w"] * compute_ms / batch] * 3, rel=0.01)


def test_an_image_that_was_run_twice_has_taken_more(measured: RunningApp) -> None:
    document = ask(measured, 8, include=["measured"], min_confidence=0.6)
    passes = [len(prediction.get("passes", ())) for prediction in document["predictions"]]
    assert set(passes) == {0, 2}
    joules = document["measured_energy"]["images_mj"]
    once = {each for each, runs in zip(joules, passes, strict=True) if runs == 0}
    twice = {each for each, runs in zip(joules, passes, strict=True) if runs == 2}
    assert len(once) == len(twice) == 1
    assert min(twice) > max(once)


def test_the_estimate_is_what_it_was_and_says_nothing_of_the_measurement(measured: RunningApp) -> None:
    plain, both = ask(measured, timesteps=2), ask(measured, timesteps=2, include=["input", "measured"])
    assert "measured_energy" not in plain
    for before, after in zip(plain["predictions"], both["predictions"], strict=True):
        assert after["energy"] == before["energy"]
        assert after.keys() - before.keys() == {"input"}


def test_where_nothing_can_be_measured_the_option_is_refused_with_the_reason(server: RunningApp) -> None:
    body = {"instances": tiny.images(1).tolist(), "include": ["measured"]}
    refused = server.post(CLASSIFY, json=body)
    assert refused.status_code == 422
    assert refused.headers["content-type"] == "application/problem+json"
    message = "nothing can be measured here: the engines run on the CPU"
    assert refused.json()["detail"] == f"include: {message}"
    assert refused.json()["errors"] == [{"option": "include", "message": message}]


def test_a_gpu_that_does_not_answer_fails_who_asked_and_nobody_else(measured: RunningApp, gpu: DrawingGpu) -> None:
    gpu.broken = "NVML: GPU is lost"
    body = {"instances": tiny.images(1).tolist()}
    assert measured.post(CLASSIFY, json={**body, "include": ["measured"]}).status_code in (422, 500)
    assert measured.post(CLASSIFY, json=body).status_code == 200


def test_what_is_measured_does_not_outlast_the_deadline(measured: RunningApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metering, "_LEAST_WINDOW_S", 3.0)
    body = {"instances": tiny.images(1).tolist(), "include": ["measured"], "deadline_ms": 400}
    assert measured.post(CLASSIFY, json=body).status_code == 504


def test_the_gpus_readings_are_metrics_where_there_is_one(measured: RunningApp, gpu: DrawingGpu) -> None:
    gpu.counter = lambda: 12.5
    text = measured.get("/metrics").text
    assert {name: measured.metric(name) for name in GPU_METRICS} == GPU_METRICS
    assert "# TYPE lmht_gpu_energy_joules_total counter" in text
    assert "lmht_gpu_energy_joules_total 12.5" in text
    assert "# TYPE lmht_gpu_power_watts gauge" in text


def test_without_a_gpu_there_are_no_metrics_of_one(server: RunningApp) -> None:
    assert "lmht_gpu" not in server.get("/metrics").text
