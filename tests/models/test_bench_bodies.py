"""The same images in every form: one answer, and a comparison of what the forms cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from models.bench import random_network
from models.bench.http import bodies as measured
from models.bench.http import cores
from models.bench.http.errors import BenchError
from models.bench.http.plan import Plan
from models.machine import describe_machine
from service.app import create_app
from service.settings import Settings
from tests.serving import RunningApp

FORMS = 6


def classes(answer: dict[str, Any]) -> list[int]:
    if "predictions" in answer:
        return [prediction["index"] for prediction in answer["predictions"]]
    return [int(text.split(":")[1]) for text in answer["outputs"][0]["data"]]


def test_every_form_asks_for_the_same_and_gets_the_same_answer(tmp_path: Path) -> None:
    random_network.write_small_bundle(tmp_path / random_network.SMALL / "1", "a test")
    images = np.random.default_rng(1).integers(0, 256, (5, 3, 32, 32), np.uint8)
    made = measured.bodies(images, random_network.SMALL)
    assert len(made) == FORMS
    with RunningApp(create_app(Settings(models=(tmp_path,), batch_sizes=(4,), threads=1))) as running:
        running.ready()
        answers = [
            running.post(body.path, content=body.content, headers=dict(body.headers)).raise_for_status().json()
            for body in made.values()
        ]
    found = [classes(answer) for answer in answers]
    assert all(indices == found[0] for indices in found)
    assert len(found[0]) == 5


def test_an_answer_that_is_no_success_ends_the_measurement() -> None:
    refusing = httpx.Client(
        base_url="http://test", transport=httpx.MockTransport(lambda _: httpx.Response(503, text="not now"))
    )
    with pytest.raises(BenchError, match="status 503: not now"):
        measured._send(refusing, measured.Body("/x", b"", {}))


@pytest.mark.long
def test_all_forms_are_measured_on_a_live_server(tmp_path: Path) -> None:
    plan = Plan(rounds=3, seconds=1, connections=1, seed=0, machine=describe_machine())
    found = measured.compare_forms(4, cores.choose(), tmp_path, plan, lambda done, wanted: None)
    assert len(found.comparison.measurements) == len(found.sizes) == len(found.waits) == FORMS
    assert found.sizes[measured.NUMBERS] > found.sizes[measured.BINARY]
    assert all(found.wait_s(form, 50) > 0 for form in found.waits)
