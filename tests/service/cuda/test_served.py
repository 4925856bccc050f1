"""The whole service on a GPU, or on interpreted kernels where there is none, over its API."""

from __future__ import annotations

import base64
import logging
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.bundle import FloatArray, Outputs
from models.fused import FusedNetwork
from service.app import create_app
from service.engines.cuda import engine as cuda
from service.engines.cuda.passes import Passes
from service.settings import Settings
from tests import fused
from tests.images import encode
from tests.interpreter import DEVICE
from tests.models import examples
from tests.serving import PATIENCE_S, RunningApp

INSTANCES = examples.images(3, fused.SIZE, seed=8).numpy().tolist()


@pytest.fixture(scope="module")
def on_a_gpu(folder: Path) -> Iterator[RunningApp]:
    settings = Settings(models=(folder,), device="cuda", batch_sizes=(1, 4), energy_profile="memory-aware")
    with RunningApp(create_app(settings)) as app:
        yield app.ready()


@pytest.fixture(scope="module")
def on_a_cpu(folder: Path) -> Iterator[RunningApp]:
    settings = Settings(models=(folder,), provider="cpu", threads=1, batch_sizes=(4,), energy_profile="memory-aware")
    with RunningApp(create_app(settings)) as app:
        yield app.ready()


def classify(app: RunningApp, model: str, timesteps: int | str) -> dict[str, Any]:
    answer = app.post(f"/v1/models/{model}/classify", json={"instances": INSTANCES, "timesteps": timesteps})
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


@pytest.mark.parametrize(("model", "timesteps"), [("first", 1), ("first", 3), ("second", 3)])
def test_answers_counts_and_energy_are_those_of_the_cpu(
    on_a_gpu: RunningApp, on_a_cpu: RunningApp, model: str, timesteps: int
) -> None:
    found, expected = classify(on_a_gpu, model, timesteps), classify(on_a_cpu, model, timesteps)
    assert found["engine"].startswith("triton/")
    assert not expected["engine"].startswith("triton/")
    assert len(found["predictions"]) == len(INSTANCES)
    for mine, theirs in zip(found["predictions"], expected["predictions"], strict=True):
        assert mine["spikes"] == theirs["spikes"]
        assert mine["energy"] == theirs["energy"]
        assert mine["spikes"]["total"] > 0
        assert mine["index"] == theirs["index"]
        assert mine["probability"] == pytest.approx(theirs["probability"], abs=1e-4)


def test_a_picture_is_classified_too(on_a_gpu: RunningApp) -> None:
    picture = encode((np.array(INSTANCES[0][0]) * 255).astype(np.uint8))
    body = {"images": [base64.b64encode(picture).decode()], "timesteps": "auto"}
    answer = on_a_gpu.post("/v1/models/second/classify", json=body)
    assert answer.status_code == 200
    assert answer.json()["timesteps"] == 3


def test_the_card_says_what_it_runs_on(on_a_gpu: RunningApp) -> None:
    card = on_a_gpu.get("/v1/models/first").json()
    name = "interpreter" if DEVICE == "cpu" else f"cuda:{torch.cuda.get_device_name()}"
    assert card["engine"] == f"triton/{name}"
    assert card["device"]["name"] == "cuda"
    assert "LMHT_DEVICE is cuda" in card["device"]["reason"]
    assert all(budget["latency_ms"] > 0 for budget in card["budgets"])


def test_requests_at_once_get_their_own_answers(on_a_gpu: RunningApp) -> None:
    alone = [p["spikes"]["total"] for p in classify(on_a_gpu, "first", 1)["predictions"]]
    assert len(set(alone)) == len(alone)
    begun = [
        on_a_gpu.begin_post("/v1/models/first/classify", json={"instances": [INSTANCES[n % 3]], "timesteps": 1})
        for n in range(6)
    ]
    answers = [request.result(PATIENCE_S) for request in begun]
    assert [a.json()["predictions"][0]["spikes"]["total"] for a in answers] == [*alone, *alone]


class Empty:
    """Passes that answer nothing, at once, or once they are two at it."""

    def __init__(self, networks: Mapping[int, FusedNetwork], *rest: Any) -> None:
        self._layers = len(next(iter(networks.values())).layers)
        self.meeting: threading.Barrier | None = None

    def run(self, images: FloatArray, timesteps: int, size: int) -> Outputs:
        if self.meeting:
            self.meeting.wait(PATIENCE_S)
        logits = np.zeros((len(images), len(fused.CLASSES)), np.float32)
        return Outputs(logits, *np.zeros((2, len(images), self._layers)))

    def close(self) -> None:
        """There is nothing to close."""


def test_two_batches_are_on_their_way_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Empty] = []

    def make(*arguments: Any) -> Passes:
        made.append(Empty(*arguments))
        return made[-1]

    monkeypatch.setattr(cuda, "_make_passes", lambda: make)
    with RunningApp(create_app(Settings(models=(folder,), device="cuda", batch_sizes=(1,)))) as app:
        app.ready()
        meeting = threading.Barrier(2)
        for passes in made:
            passes.meeting = meeting
        begun = [
            app.begin_post(f"/v1/models/{model}/classify", json={"instances": INSTANCES[:1], "timesteps": 1})
            for model in ("first", "second")
        ]
        assert [request.result(PATIENCE_S).status_code for request in begun] == [200, 200]


def test_a_model_that_the_memory_has_no_room_for_leaves_the_others_served(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opened = 0

    def make(*arguments: Any) -> Passes:
        nonlocal opened
        opened += 1
        if opened == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity …")
        return Empty(*arguments)

    monkeypatch.setattr(cuda, "_make_passes", lambda: make)
    settings = Settings(models=(folder,), device="cuda", batch_sizes=(1,))
    with caplog.at_level(logging.INFO, "lmht"), RunningApp(create_app(settings)) as app:
        app.ready()
        listed = app.get("/v1/models").json()
        assert [model["name"] for model in listed["models"]] == ["first"]
        assert listed["failed"] == {"second/1": "the GPU's memory is full: CUDA out of memory"}
        assert app.get("/readyz").status_code == 200
        assert classify(app, "first", 1)["model"] == "first"
        assert app.post("/v2/repository/models/second/load").status_code == 200  # there is room again
        assert classify(app, "second", 1)["model"] == "second"
    if DEVICE == "cpu":
        assert any("Triton's interpreter, thousands of times slower" in line for line in caplog.messages)
