"""Inference over the Open Inference Protocol: whatever the form of a request, it answers what the network says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import bundle, energy
from service.app import create_app
from service.handler import Classification, ClassifyRequest
from service.settings import Settings
from tests import tiny
from tests.images import encode
from tests.inference import (
    INFER,
    LENGTH,
    OUTPUTS,
    Request,
    as_bytes,
    as_json,
    ask,
    check,
    elements,
    expected,
    fp32,
    in_base64,
    post,
    read,
)
from tests.serving import RunningApp

IMAGES = tiny.images(3, seed=5)
# Black and white become 0 and 1 exactly, so that the reference's arithmetic holds for pictures too.
PIXELS = np.random.default_rng(1).integers(0, 2, (3, 1, 8, 8)).astype(np.uint8) * 255
FILES = [encode(image[0]) for image in PIXELS]
BLACK_AND_WHITE = (PIXELS / 255).astype(np.float32)
GREY = np.random.default_rng(2).integers(0, 256, (3, 1, 8, 8)).astype(np.uint8)


@pytest.mark.parametrize(
    ("request_", "images"),
    [
        pytest.param(as_json("FP32", IMAGES.shape, IMAGES.tolist()), IMAGES, id="FP32, nested"),
        pytest.param(as_json("FP32", IMAGES.shape, IMAGES.ravel().tolist()), IMAGES, id="FP32, flat"),
        pytest.param(as_bytes("FP32", IMAGES.shape, IMAGES.astype("<f4").tobytes()), IMAGES, id="FP32, bytes"),
        pytest.param(as_json("UINT8", PIXELS.shape, PIXELS.tolist()), BLACK_AND_WHITE, id="UINT8, nested"),
        pytest.param(as_json("UINT8", PIXELS.shape, PIXELS.ravel().tolist()), BLACK_AND_WHITE, id="UINT8, flat"),
        pytest.param(as_bytes("UINT8", PIXELS.shape, PIXELS.tobytes()), BLACK_AND_WHITE, id="UINT8, bytes"),
        pytest.param(as_json("BYTES", [3], in_base64(FILES)), BLACK_AND_WHITE, id="BYTES [n], base64"),
        pytest.param(as_json("BYTES", [3, 1], in_base64(FILES)), BLACK_AND_WHITE, id="BYTES [n, 1], base64, flat"),
        pytest.param(
            as_json("BYTES", [3, 1], [[text] for text in in_base64(FILES)]),
            BLACK_AND_WHITE,
            id="BYTES [n, 1], base64, nested",
        ),
        pytest.param(as_bytes("BYTES", [3], elements(FILES)), BLACK_AND_WHITE, id="BYTES [n], bytes"),
        pytest.param(as_bytes("BYTES", [3, 1], elements(FILES)), BLACK_AND_WHITE, id="BYTES [n, 1], bytes"),
        pytest.param(Request(IMAGES.astype("<f4").tobytes(), {LENGTH: "0"}), IMAGES, id="bytes alone"),
        pytest.param(
            Request(FILES[0], {LENGTH: "0", "content-type": "image/png"}), BLACK_AND_WHITE[:1], id="a picture alone"
        ),
    ],
)
def test_every_form_of_a_request_gets_the_networks_answer(
    server: RunningApp, request_: Request, images: np.ndarray[Any, Any]
) -> None:
    answer = ask(server, request_)
    assert list(answer.outputs) == list(OUTPUTS)
    check(answer.outputs, expected(images, 4))
    assert answer.document["model_name"] == "tiny"
    assert answer.document["model_version"] == "1"
    # Bytes are answered where they were asked for: with nothing but bytes in a request, they are.
    assert (LENGTH in post(server, request_).headers) == (request_.headers.get(LENGTH) == "0")


@pytest.mark.parametrize(
    "request_",
    [
        as_json("UINT8", GREY.shape, GREY.tolist()),
        as_bytes("UINT8", GREY.shape, GREY.tobytes()),
        as_bytes("BYTES", [3], elements([encode(image[0]) for image in GREY])),
    ],
    ids=["JSON", "bytes", "pictures"],
)
def test_uint8_pixels_are_those_of_a_picture(server: RunningApp, request_: Request) -> None:
    answer = ask(server, request_)
    form = [("image", encode(image[0])) for image in GREY]
    native = server.post("/v1/models/tiny/classify", files=form).json()["predictions"]
    for number, prediction in enumerate(native):
        row = {name: values[number] for name, values in answer.outputs.items()}
        assert row["spikes"].tolist() == [layer["count"] for layer in prediction["spikes"]["layers"]]
        assert row["energy_nj"] == prediction["energy"]["snn_nj"]
        assert row["synops"].sum() == prediction["energy"]["synops"]
        assert row["probabilities"][prediction["index"]] == np.float32(prediction["probability"])
        assert row["logits"].argmax() == prediction["index"]


@pytest.mark.parametrize("asked", [["energy_nj"], ["synops", "logits"], ["probabilities", "spikes", "logits"], []])
def test_only_the_outputs_asked_for_come_and_in_their_order(server: RunningApp, asked: list[str]) -> None:
    answer = ask(server, fp32(IMAGES, outputs=[{"name": name} for name in asked]))
    assert list(answer.outputs) == (asked or list(OUTPUTS))
    check(answer.outputs, expected(IMAGES, 4))


def binaries(server: RunningApp, **members: Any) -> list[str]:
    """The outputs that come as bytes; all of them are right."""
    answer = ask(server, fp32(IMAGES, **members))
    check(answer.outputs, expected(IMAGES, 4))
    return [output["name"] for output in answer.document["outputs"] if "parameters" in output]


def test_an_output_comes_as_bytes_where_it_or_all_are_asked_for_so(server: RunningApp) -> None:
    every = {"binary_data_output": True}
    as_they_are = [{"name": "logits"}, {"name": "synops"}]
    mixed = [{"name": "logits", "parameters": {"binary_data": True}}, {"name": "synops"}]
    but_one = [{"name": "logits"}, {"name": "synops", "parameters": {"binary_data": False}}]
    assert binaries(server) == []
    assert binaries(server, parameters=every) == list(OUTPUTS)
    assert binaries(server, parameters={"binary_data_output": False}) == []
    assert binaries(server, outputs=mixed) == ["logits"]
    assert binaries(server, outputs=as_they_are, parameters=every) == ["logits", "synops"]
    assert binaries(server, outputs=but_one, parameters=every) == ["logits"]
    assert binaries(server, outputs=mixed, parameters={"binary_data_output": False}) == ["logits"]


def test_datatypes_and_shapes_are_those_of_the_metadata(server: RunningApp) -> None:
    metadata = server.get("/v2/models/tiny").json()["outputs"]
    answered = ask(server, fp32(IMAGES)).document["outputs"]
    for told, output in zip(metadata, answered, strict=True):
        assert (output["name"], output["datatype"]) == (told["name"], told["datatype"])
        assert output["shape"] == [len(IMAGES), *told["shape"][1:]]


# --- Classes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 1000])
@pytest.mark.parametrize("name", ["logits", "probabilities"])
def test_the_best_classes_come_as_score_index_and_label(
    server: RunningApp, name: str, count: int, binary: bool
) -> None:
    asked = {"name": name, "parameters": {"classification": count, "binary_data": binary}}
    answer = ask(server, fp32(IMAGES, outputs=[asked]))
    (output,) = answer.document["outputs"]
    assert output["datatype"] == "BYTES"
    assert output["shape"] == [len(IMAGES), min(count, len(tiny.CLASSES))]
    scores = expected(IMAGES, 4)[name]
    for row, texts in zip(scores, answer.outputs[name].tolist(), strict=True):
        ranking = sorted(range(3), key=lambda index, row=row: -row[index])[:count]  # type: ignore[misc]
        for index, text in zip(ranking, texts, strict=True):
            score, number, label = text.split(":")
            assert (int(number), label) == (index, tiny.CLASSES[index])
            assert float(score) == pytest.approx(row[index], abs=1e-6)
            assert len(score.partition(".")[2]) == 6


def test_a_score_is_written_with_six_decimals(server: RunningApp) -> None:
    asked = [{"name": "logits", "parameters": {"classification": 1}}]
    image = tiny.images(1, seed=5)
    logits = tiny.reference(image, 4).logits[0]
    best = int(logits.argmax())
    (output,) = ask(server, fp32(image, outputs=asked)).document["outputs"]
    assert output["data"] == [f"{float(logits[best]):f}:{best}:{tiny.CLASSES[best]}"]


def test_of_classes_with_one_score_the_first_comes_first(repository: Path) -> None:
    from tests.serving import GatedApp

    app = create_app(Settings(models=(repository,), inline_ms=0), GatedApp().open_engine)
    with RunningApp(app) as running:
        running.ready()
        black = np.zeros((1, 1, 8, 8), np.float32)
        asked = [{"name": "probabilities", "parameters": {"classification": 3}}]
        (output,) = ask(running, fp32(black, outputs=asked)).document["outputs"]
    assert output["data"] == ["0.333333:0:ring", "0.333333:1:bar", "0.333333:2:dot"]


def test_no_classes_are_numbers(server: RunningApp) -> None:
    asked = [{"name": "logits", "parameters": {"classification": 0}}]
    check(ask(server, fp32(IMAGES, outputs=asked)).outputs, expected(IMAGES, 4))


# --- What an answer says beside its outputs -------------------------------------------------------------------------


def test_the_parameters_tell_how_it_was_run(server: RunningApp) -> None:
    parameters = ask(server, fp32(IMAGES, parameters={"timesteps": 2})).document["parameters"]
    assert list(parameters) == [
        "timesteps",
        "levels",
        "batch_size",
        "energy_profile",
        "engine",
        "decode_ms",
        "queue_ms",
        "compute_ms",
        "total_ms",
    ]
    assert parameters["timesteps"] == 2
    assert parameters["levels"] == tiny.LEVELS
    assert parameters["batch_size"] == len(IMAGES)
    assert parameters["energy_profile"] == energy.DEFAULT_PROFILE
    assert parameters["engine"] == server.get("/v1/models/tiny").json()["engine"]
    parts = [parameters[f"{name}_ms"] for name in ("decode", "queue", "compute")]
    assert min(parts) >= 0
    assert parameters["total_ms"] > parameters["compute_ms"] > 0


def test_the_id_comes_back_and_only_where_there_is_one(server: RunningApp) -> None:
    named = post(server, fp32(IMAGES, id="mine"))
    assert read(named).document["id"] == named.headers["x-request-id"] == "mine"
    for members in ({}, {"id": None}):
        unnamed = post(server, fp32(IMAGES, **members))
        assert "id" not in read(unnamed).document
        assert unnamed.headers["x-request-id"]
    # What cannot stand in a header is answered all the same.
    odd = post(server, fp32(IMAGES, id="ä line\nand another"))
    assert read(odd).document["id"] == "ä line\nand another"
    assert odd.headers["x-request-id"].isascii()
    assert read(post(server, fp32(IMAGES, id=""))).document["id"] == ""


def test_what_other_servers_clients_send_along_changes_nothing(server: RunningApp) -> None:
    along = {
        "sequence_id": 7,
        "sequence_start": True,
        "sequence_end": False,
        "triton_enable_empty_final_response": True,
    }
    answer = ask(server, fp32(IMAGES, parameters=along, model_name="tiny", model_version="1"))
    check(answer.outputs, expected(IMAGES, 4))
    content_type = {"content_type": "np"}
    tensor = {"name": "images", "shape": [3, 1, 8, 8], "datatype": "FP32", "parameters": content_type}
    document = {"inputs": [tensor | {"data": IMAGES.tolist()}], "outputs": [{"name": "logits", "parameters": None}]}
    check(ask(server, Request(json.dumps(document).encode(), {})).outputs, expected(IMAGES, 4))


def test_a_version_may_stand_in_the_address(tmp_path: Path) -> None:
    tiny.write(tmp_path / "tiny" / "1")
    tiny.write(tmp_path / "tiny" / "3", seed=6)
    with RunningApp(create_app(Settings(models=(tmp_path,), batch_sizes=(1, 4), threads=1))) as running:
        running.ready()
        for path, version, seed in (
            (INFER, "3", 6),
            ("/v2/models/tiny/versions/1/infer", "1", tiny.SEED),
            ("/v2/models/tiny/versions/3/infer", "3", 6),
        ):
            answer = ask(running, fp32(IMAGES), path)
            assert answer.document["model_version"] == version
            np.testing.assert_array_equal(answer.outputs["logits"], tiny.reference(IMAGES, 4, seed).logits)


# --- Options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("asked", "run"), [(1, 1), (2, 2), (3, 2), (4, 4), (1024, 4), ("auto", 4), (None, 4)])
def test_a_budget_is_chosen_as_in_the_native_api(server: RunningApp, asked: int | str | None, run: int) -> None:
    answer = ask(server, fp32(IMAGES, parameters={"timesteps": asked}))
    assert answer.document["parameters"]["timesteps"] == run
    check(answer.outputs, expected(IMAGES, run))


@pytest.mark.parametrize("profile", energy.PROFILES)
def test_energy_is_that_of_the_profile_asked_for(server: RunningApp, profile: str) -> None:
    answer = ask(server, fp32(IMAGES, parameters={"energy_profile": profile, "timesteps": 2}))
    assert answer.document["parameters"]["energy_profile"] == profile
    check(answer.outputs, expected(IMAGES, 2, profile))
    assert all(np.isfinite(values).all() for values in answer.outputs.values())


def test_only_uncertain_images_are_run_again(server: RunningApp) -> None:
    images = tiny.images(6, seed=3)
    first, again = expected(images, 1), expected(images, 4)
    confidence = np.sort(first["probabilities"].max(axis=1))
    asked = float(confidence[2] + confidence[3]) / 2
    uncertain = first["probabilities"].max(axis=1) < asked
    assert uncertain.sum() == 3
    answer = ask(server, fp32(images, parameters={"min_confidence": asked}))
    assert answer.document["parameters"]["timesteps"] == 4
    for name, values in answer.outputs.items():
        spent = name in ("spikes", "synops", "energy_nj")
        for number, value in enumerate(values):
            both = first[name][number] + again[name][number] if spent else again[name][number]
            wanted = both if uncertain[number] else first[name][number]
            np.testing.assert_allclose(value, wanted, rtol=1e-6)


@pytest.fixture
def asked(server: RunningApp, monkeypatch: pytest.MonkeyPatch) -> list[ClassifyRequest]:
    """What reaches the handler."""
    seen: list[ClassifyRequest] = []
    classify = server.services.handler.classify

    async def spy(request: ClassifyRequest) -> Classification:
        seen.append(request)
        return await classify(request)

    monkeypatch.setattr(server.services.handler, "classify", spy)
    return seen


@pytest.mark.parametrize(
    ("value", "priority"),
    [(0, None), (1, "high"), (2, "normal"), (3, "low"), ("high", "high"), ("normal", "normal"), ("low", "low")],
)
def test_priorities_are_tritons_levels_or_names(
    server: RunningApp, asked: list[ClassifyRequest], value: int | str, priority: str | None
) -> None:
    check(ask(server, fp32(IMAGES, parameters={"priority": value})).outputs, expected(IMAGES, 4))
    assert [request.options.priority for request in asked] == [priority]


@pytest.mark.parametrize(
    ("parameters", "deadline_ms"),
    [({"timeout": 2_500_000}, 2500), ({"deadline_ms": 2500}, 2500), ({"timeout": 0}, None), ({"timeout": None}, None)],
)
def test_a_timeout_is_a_deadline_in_microseconds(
    server: RunningApp, asked: list[ClassifyRequest], parameters: dict[str, int], deadline_ms: float | None
) -> None:
    check(ask(server, fp32(IMAGES, parameters=parameters)).outputs, expected(IMAGES, 4))
    assert [request.options.deadline_ms for request in asked] == [deadline_ms]


def test_an_energy_that_its_profile_does_not_apply_to_is_null_or_nan(tmp_path: Path) -> None:
    """By the paper's rule nothing is said of a network whose head reads signed values."""
    made = tiny.write(tmp_path / "tiny" / "1")
    files = {name: made.read(name) for name in made.manifest.files}
    analog = made.manifest.connections[2].model_copy(update={"analog": True})
    connections = (*made.manifest.connections[:2], analog)
    bundle.write(made.path, made.manifest.model_copy(update={"connections": connections}), files)
    with RunningApp(create_app(Settings(models=(tmp_path,), batch_sizes=(1, 4), threads=1))) as running:
        running.ready()
        paper = {"energy_profile": "paper"}
        outputs = [{"name": "energy_nj"}, {"name": "logits"}]
        json_ = ask(running, fp32(IMAGES, outputs=outputs, parameters=paper))
        assert json_.document["outputs"][0]["data"] == [None, None, None]
        binary = ask(running, fp32(IMAGES, outputs=outputs, parameters=paper | {"binary_data_output": True}))
        assert np.isnan(binary.outputs["energy_nj"]).all()
        for answer in (json_, binary):
            np.testing.assert_array_equal(answer.outputs["logits"], expected(IMAGES, 4)["logits"])
        other = ask(running, fp32(IMAGES, outputs=outputs, parameters={"energy_profile": "horowitz-45nm-int8"}))
        assert np.isfinite(other.outputs["energy_nj"]).all()
