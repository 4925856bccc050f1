"""The native API from a client's side: what it answers, and that it answers what the network says."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from models import energy
from models.bundle import MANIFEST, FloatArray
from service import schemas
from service.app import create_app
from service.settings import Settings
from tests import tiny
from tests.images import encode
from tests.serving import RunningApp

CLASSIFY = "/v1/models/tiny/classify"
# Sixteenths times 255 are no whole numbers: pictures are compared with pictures, numbers with the reference.
INSTANCES = tiny.images(3, seed=5)
PICTURES = [encode((image[0] * 255).astype(np.uint8)) for image in INSTANCES]


def as_json(server: RunningApp, values: FloatArray, **options: Any) -> httpx.Response:
    return server.post(CLASSIFY, json={"instances": values.tolist(), **options})


def as_raw(server: RunningApp, picture: bytes, query: str = "", media_type: str = "image/png") -> httpx.Response:
    return server.post(CLASSIFY + query, content=picture, headers={"content-type": media_type})


def answer(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    document: dict[str, Any] = response.json()
    schemas.Classification.model_validate(document)
    return document


@pytest.mark.parametrize("timesteps", tiny.BUDGETS)
def test_the_answer_is_the_networks(server: RunningApp, timesteps: int) -> None:
    document = answer(as_json(server, INSTANCES, timesteps=timesteps, top_k=2))
    expected = tiny.reference(INSTANCES, timesteps)
    temperature = tiny.manifest().budget(timesteps).temperature  # type: ignore[union-attr]
    assert document["timesteps"] == timesteps
    assert document["levels"] == tiny.LEVELS
    for number, prediction in enumerate(document["predictions"]):
        powers = [np.exp(float(x) / temperature) for x in expected.logits[number]]
        ranking = sorted(range(3), key=lambda index: -powers[index])
        assert [entry["index"] for entry in prediction["top_k"]] == ranking[:2]
        assert [entry["label"] for entry in prediction["top_k"]] == [tiny.CLASSES[index] for index in ranking[:2]]
        for entry in prediction["top_k"]:
            assert entry["probability"] == pytest.approx(powers[entry["index"]] / sum(powers), rel=1e-6)
        assert {name: prediction[name] for name in ("index", "label", "probability")} == prediction["top_k"][0]
        assert prediction["timesteps"] == timesteps


def test_spikes_and_energy_are_counted_for_each_image(server: RunningApp) -> None:
    document = answer(as_json(server, INSTANCES, timesteps=4, energy_profile="horowitz-45nm-int8"))
    expected, manifest = tiny.reference(INSTANCES, 4), tiny.manifest()
    for number, prediction in enumerate(document["predictions"]):
        counts, neurons = expected.spikes[number], [layer.neurons for layer in manifest.layers]
        assert prediction["spikes"]["total"] == counts.sum()
        assert prediction["spikes"]["per_neuron"] == counts.sum() / sum(neurons)
        assert prediction["spikes"]["layers"] == [
            {"name": name, "count": count, "per_neuron": count / of}
            for name, count, of in zip(tiny.LAYERS, counts, neurons, strict=True)
        ]
        estimate = energy.estimate(manifest, 4, counts, expected.synops[number], "horowitz-45nm-int8")
        assert prediction["energy"] == {
            "profile": "horowitz-45nm-int8",
            "snn_nj": estimate.snn_nj,
            "ann_nj": estimate.ann_nj,
            "ratio": estimate.ratio,
            "synops": estimate.synops,
            "macs": estimate.macs,
        }


def test_the_members_are_those_of_the_contract_in_their_order(server: RunningApp) -> None:
    document = answer(as_raw(server, PICTURES[0]))
    assert list(document) == [
        "model",
        "version",
        "id",
        "engine",
        "timesteps",
        "levels",
        "predictions",
        "latency_ms",
        "batch_size",
    ]
    prediction = document["predictions"][0]
    assert list(prediction) == ["index", "label", "probability", "top_k", "timesteps", "spikes", "energy"]
    assert list(prediction["spikes"]) == ["total", "per_neuron", "layers"]
    assert list(prediction["energy"]) == ["profile", "snn_nj", "ann_nj", "ratio", "synops", "macs"]
    assert list(document["latency_ms"]) == ["decode", "queue", "compute", "total"]
    assert (document["model"], document["version"]) == ("tiny", "1")
    assert document["engine"] in ("openvino/CPU", "onnxruntime/CPUExecutionProvider")
    assert type(prediction["spikes"]["total"]) is int


def test_raw_form_and_json_get_the_same_answer(server: RunningApp) -> None:
    options = {"timesteps": 2, "top_k": 3, "energy_profile": "memory-aware"}
    raw = [answer(as_raw(server, p, "?timesteps=2&top_k=3&energy_profile=memory-aware")) for p in PICTURES]
    form = answer(
        server.post(CLASSIFY, files=[("image", p) for p in PICTURES], data={k: str(v) for k, v in options.items()})
    )
    encoded = [base64.b64encode(p).decode() for p in PICTURES]
    json = answer(server.post(CLASSIFY, json={"images": encoded, **options}))
    mixed = answer(
        server.post(CLASSIFY + "?timesteps=2&top_k=3", json={"images": encoded, "energy_profile": "memory-aware"})
    )
    singles = [document["predictions"][0] for document in raw]
    assert form["predictions"] == json["predictions"] == mixed["predictions"] == singles


def test_a_batch_answers_as_its_images_alone_would(server: RunningApp) -> None:
    together = answer(as_json(server, INSTANCES))["predictions"]
    alone = [answer(as_json(server, INSTANCES[i : i + 1]))["predictions"][0] for i in range(len(INSTANCES))]
    assert together == alone


@pytest.mark.parametrize(("asked", "run"), [(1, 1), (2, 2), (3, 2), (4, 4), (1000, 4), (1024, 4)])
def test_the_largest_budget_not_above_the_one_asked_for_is_run(server: RunningApp, asked: int, run: int) -> None:
    assert answer(as_raw(server, PICTURES[0], f"?timesteps={asked}"))["timesteps"] == run


def test_without_a_budget_the_largest_is_run(server: RunningApp) -> None:
    assert answer(as_raw(server, PICTURES[0]))["timesteps"] == 4


def test_a_version_may_be_named(server: RunningApp) -> None:
    path = "/v1/models/tiny/versions/1/classify"
    assert answer(server.post(path, content=PICTURES[0], headers={"content-type": "image/png"}))["version"] == "1"


def test_all_classes_are_listed_where_more_are_asked_for(server: RunningApp) -> None:
    prediction = answer(as_raw(server, PICTURES[0], "?top_k=1000"))["predictions"][0]
    assert len(prediction["top_k"]) == len(tiny.CLASSES)
    assert sum(entry["probability"] for entry in prediction["top_k"]) == pytest.approx(1)


def test_the_input_is_shown_as_the_network_sees_it(server: RunningApp) -> None:
    shown = answer(as_raw(server, PICTURES[1], "?include=input"))["predictions"][0]
    picture = base64.b64decode(shown.pop("input"))
    again = answer(as_raw(server, picture, "?include=input"))["predictions"][0]
    assert base64.b64decode(again.pop("input")) == picture
    assert again == shown
    assert "input" not in answer(as_raw(server, PICTURES[1]))["predictions"][0]


def test_the_clients_id_comes_back_and_one_is_made_where_there_is_none(server: RunningApp) -> None:
    def ask(query: str = "", **headers: str) -> tuple[str, str]:
        response = server.post(CLASSIFY + query, content=PICTURES[0], headers={"content-type": "image/png", **headers})
        return answer(response)["id"], response.headers["x-request-id"]

    assert ask("?id=mine") == ("mine", "mine")
    assert ask(**{"x-request-id": "header"}) == ("header", "header")
    assert ask("?id=mine", **{"x-request-id": "header"}) == ("mine", "mine")
    first, second = ask(), ask(**{"x-request-id": "no good"})
    assert first[0] == first[1]
    assert first != second
    assert "no good" not in second


def test_an_error_has_the_clients_id_too(server: RunningApp) -> None:
    response = server.post(CLASSIFY, content=b"x", headers={"content-type": "image/png", "x-request-id": "mine"})
    assert response.json()["request_id"] == response.headers["x-request-id"] == "mine"
    chosen = as_raw(server, b"x", "?id=chosen")
    assert chosen.json()["request_id"] == chosen.headers["x-request-id"] == "chosen"


def test_models_are_listed_and_have_cards(server: RunningApp) -> None:
    listed = schemas.ModelList.model_validate(server.get("/v1/models").json())
    assert [(m.name, m.version, m.classes, m.timesteps) for m in listed.models] == [("tiny", "1", 3, [1, 2, 4])]
    card = schemas.ModelCard.model_validate(server.get("/v1/models/tiny").json())
    assert server.get("/v1/models/tiny/versions/1").json() == card.model_dump(mode="json")
    assert card.classes == list(tiny.CLASSES)
    assert [budget.timesteps for budget in card.budgets] == list(tiny.BUDGETS)
    assert card.budgets[0].accuracy is None
    assert card.budgets[1].accuracy is not None
    assert card.budgets[1].accuracy.served == 0.75
    for budget, described in zip(card.budgets, tiny.manifest().budgets, strict=True):
        assert budget.temperature == described.temperature
        assert budget.mean_spikes is not None
        assert [layer.count for layer in budget.mean_spikes.layers] == list(described.mean_spikes or ())
        assert budget.latency_ms is not None
        assert budget.latency_ms > 0


def test_the_card_prices_each_budget_under_each_profile_beside_its_rival(server: RunningApp) -> None:
    card = schemas.ModelCard.model_validate(server.get("/v1/models/tiny").json())
    profiles = {profile.name: profile for profile in card.energy_profiles}
    assert set(profiles) == set(energy.PROFILES)
    for profile in profiles.values():
        assert any("hypothetical hardware" in assumption for assumption in profile.assumptions)
    for budget, bits in zip(card.budgets, (2, 3, 4), strict=True):  # the least with 2 ** bits > T · L = 2, 4, 8
        assert [entry.profile for entry in budget.energy] == list(energy.PROFILES)
        for entry in budget.energy:
            assert entry.quantised_ann.bits == bits
            if entry.snn_nj is not None:
                assert entry.quantised_ann.ratio == pytest.approx(entry.snn_nj / entry.quantised_ann.nj)


def test_the_card_says_how_often_an_imported_network_agrees_with_its_checkpoint(tmp_path: Path) -> None:
    tiny.write(tmp_path / "tiny" / "1")
    manifest = tmp_path / "tiny" / "1" / MANIFEST
    document = json.loads(manifest.read_text(encoding="utf-8"))
    agreement = {
        "dataset": "pictures",
        "samples": 8,
        "timesteps": 4,
        "served": 0.75,
        "float32": 0.875,
        "engine": "reference",
        "cpu": "any",
    }
    document["budgets"][0]["agreement"] = agreement
    manifest.write_text(json.dumps(document), encoding="utf-8")
    with RunningApp(create_app(Settings(models=(tmp_path,), batch_sizes=(1,), threads=1))) as running:
        card = schemas.ModelCard.model_validate(running.ready().get("/v1/models/tiny").json())
    shown, *rest = [budget.agreement for budget in card.budgets]
    assert shown is not None
    assert shown.model_dump() == agreement
    assert rest == [None, None]
