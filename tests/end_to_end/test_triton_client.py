"""Triton's own client, as it comes from PyPI, against a live server."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton  # type: ignore[import-untyped]
import tritonclient.http.aio as triton_aio  # type: ignore[import-untyped]
from tritonclient.utils import InferenceServerException  # type: ignore[import-untyped]

from models.bundle import FloatArray
from tests import tiny
from tests.images import encode
from tests.inference import OUTPUTS, Array, check, expected
from tests.live import Process, running
from tests.serving import PATIENCE_S

IMAGES = tiny.images(16, seed=5)
# Black and white become 0 and 1 exactly, so that the reference's arithmetic holds for them too.
PIXELS = np.random.default_rng(1).integers(0, 2, (3, 1, 8, 8)).astype(np.uint8) * 255
FILES = [encode(image[0]) for image in PIXELS]
BLACK_AND_WHITE = (PIXELS / 255).astype(np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    repository = tmp_path_factory.mktemp("repository")
    for name in ("tiny", "other"):
        tiny.write(repository / name / "1", name=name)
    with running(repository, LMHT_MAX_IMAGES="16") as process:
        yield process


@pytest.fixture
def client(server: Process) -> Iterator[Any]:
    with triton.InferenceServerClient(server.url.removeprefix("http://"), concurrency=8) as opened:
        yield opened


def tensor(values: Array, datatype: str, binary: bool = True, module: Any = triton) -> Any:
    return module.InferInput("images", list(values.shape), datatype).set_data_from_numpy(values, binary_data=binary)


def fp32(images: FloatArray, binary: bool = True) -> list[Any]:
    return [tensor(images, "FP32", binary)]


def outputs(result: Any, names: tuple[str, ...] = OUTPUTS) -> dict[str, Array]:
    """The outputs of a result, which has these and no others."""
    assert tuple(output["name"] for output in result.get_response()["outputs"]) == names
    return {name: result.as_numpy(name) for name in names}


def refusal(refused: pytest.ExceptionInfo[Any]) -> tuple[str, str]:
    return refused.value.status(), refused.value.message()


def test_it_finds_the_server_and_its_models_alive_and_ready(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", "1")
    assert not client.is_model_ready("tiny", "2")
    assert not client.is_model_ready("nope")


def test_it_reads_metadata_configuration_and_index(client: Any) -> None:
    assert client.get_server_metadata()["name"] == "lmht-serve"
    metadata = client.get_model_metadata("tiny", "1")
    assert metadata["inputs"] == [{"name": "images", "datatype": "FP32", "shape": [-1, 1, 8, 8]}]
    assert tuple(output["name"] for output in metadata["outputs"]) == OUTPUTS
    assert client.get_model_config("tiny")["max_batch_size"] == 16
    index = client.get_model_repository_index()
    assert [(entry["name"], entry["version"], entry["state"]) for entry in index] == [
        ("other", "1", "READY"),
        ("tiny", "1", "READY"),
    ]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("count", [1, 16])
def test_numbers_are_answered_as_the_network_says(client: Any, count: int, binary: bool) -> None:
    result = client.infer("tiny", fp32(IMAGES[:count], binary))
    check(outputs(result), expected(IMAGES[:count], 4))


@pytest.mark.parametrize("binary", [True, False])
def test_pixels_are(client: Any, binary: bool) -> None:
    check(outputs(client.infer("tiny", [tensor(PIXELS, "UINT8", binary)])), expected(BLACK_AND_WHITE, 4))


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
@pytest.mark.parametrize("binary", [True, False])
def test_pictures_are(client: Any, binary: bool, shape: tuple[int, ...]) -> None:
    files: list[object] = [file if binary else base64.b64encode(file).decode() for file in FILES]
    sent = tensor(np.array(files, dtype=np.object_).reshape(shape), "BYTES", binary)
    check(outputs(client.infer("tiny", [sent])), expected(BLACK_AND_WHITE, 4))


@pytest.mark.parametrize("binary", [True, False])
def test_the_outputs_asked_for_come_in_their_order(client: Any, binary: bool) -> None:
    names = ("energy_nj", "logits", "probabilities", "synops", "spikes")
    asked = [triton.InferRequestedOutput(name, binary_data=binary) for name in names]
    result = client.infer("tiny", fp32(IMAGES), outputs=asked)
    check(outputs(result, names), expected(IMAGES, 4))
    assert all(("data" in result.get_output(name)) != binary for name in names)
    mixed = [triton.InferRequestedOutput("logits", binary_data=binary), triton.InferRequestedOutput("spikes")]
    check(outputs(client.infer("tiny", fp32(IMAGES), outputs=mixed), ("logits", "spikes")), expected(IMAGES, 4))


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_class_count_gives_the_best_classes(client: Any, count: int, binary: bool) -> None:
    asked = [triton.InferRequestedOutput("logits", binary_data=binary, class_count=count)]
    rows = client.infer("tiny", fp32(IMAGES), outputs=asked).as_numpy("logits")
    assert rows.shape == (16, min(count, 3))
    for texts, logits in zip(rows, tiny.reference(IMAGES, 4).logits, strict=True):
        ranking = sorted(range(3), key=lambda index, logits=logits: -logits[index])[:count]  # type: ignore[misc]
        for text, index in zip(texts, ranking, strict=True):
            text = text.decode() if isinstance(text, bytes) else text
            assert text == f"{float(logits[index]):f}:{index}:{tiny.CLASSES[index]}"


def test_options_are_parameters_and_come_back_as_such(client: Any) -> None:
    options = {"timesteps": 2, "energy_profile": "memory-aware"}
    result = client.infer("tiny", fp32(IMAGES), request_id="mine", parameters=options)
    check(outputs(result), expected(IMAGES, 2, "memory-aware"))
    response = result.get_response()
    assert response["id"] == "mine"
    assert response["parameters"]["timesteps"] == 2
    assert response["parameters"]["energy_profile"] == "memory-aware"
    assert "id" not in client.infer("tiny", fp32(IMAGES)).get_response()


@pytest.mark.parametrize(
    "arguments",
    [
        {"priority": 1},
        {"priority": 3, "timeout": 30_000_000},
        {"timeout": 0},
        {"model_version": "1"},
        {"sequence_id": 7, "sequence_start": True, "sequence_end": True},
        {"sequence_id": "mine"},
        {"headers": {"X-Request-ID": "mine"}, "query_params": {"any": "thing"}},
        {"request_compression_algorithm": "gzip"},
        {"request_compression_algorithm": "deflate", "response_compression_algorithm": "deflate"},
        {"response_compression_algorithm": "gzip"},
    ],
    ids=str,
)
@pytest.mark.parametrize("binary", [True, False])
def test_whatever_else_the_client_can_say_is_understood(client: Any, arguments: dict[str, Any], binary: bool) -> None:
    asked = None if binary else [triton.InferRequestedOutput(name, binary_data=False) for name in OUTPUTS]
    # The client writes into the headers that it is given.
    given = {name: dict(value) if isinstance(value, dict) else value for name, value in arguments.items()}
    result = client.infer("tiny", fp32(IMAGES, binary), outputs=asked, **given)
    check(outputs(result), expected(IMAGES, 4))


def test_requests_at_once_get_each_its_own_answer(client: Any) -> None:
    parts = np.split(IMAGES, 8)
    requests = [
        client.async_infer("tiny", fp32(part), request_id=str(number), parameters={"timesteps": 2})
        for number, part in enumerate(parts)
    ]
    for number, (request, part) in enumerate(zip(requests, parts, strict=True)):
        result = request.get_result(timeout=PATIENCE_S)
        assert result.get_response()["id"] == str(number)
        check(outputs(result), expected(part, 2))


def test_the_asyncio_client_is_answered_alike(server: Process) -> None:
    async def ask() -> None:
        async with triton_aio.InferenceServerClient(server.url.removeprefix("http://")) as client:
            assert await client.is_server_live()
            assert await client.is_server_ready()
            assert await client.is_model_ready("tiny")
            assert (await client.get_model_metadata("tiny"))["versions"] == ["1"]
            inputs = [tensor(IMAGES, "FP32", module=triton_aio)]
            results = await asyncio.gather(
                client.infer("tiny", inputs),
                client.infer("tiny", inputs, parameters={"timesteps": 1}, request_compression_algorithm="gzip"),
                client.infer("tiny", inputs, outputs=[triton_aio.InferRequestedOutput("logits", binary_data=False)]),
            )
            for result, timesteps, names in zip(results, (4, 1, 4), (OUTPUTS, OUTPUTS, ("logits",)), strict=True):
                check(outputs(result, names), expected(IMAGES, timesteps))
            with pytest.raises(InferenceServerException) as refused:
                await client.infer("nope", inputs)
            assert refusal(refused) == ("404", "there is no model 'nope'")

    asyncio.run(ask())


@pytest.mark.parametrize("binary", [True, False])
def test_bodies_that_it_only_writes_and_reads_go_over_any_http(server: Process, binary: bool) -> None:
    body, length = triton.InferenceServerClient.generate_request_body(
        fp32(IMAGES, binary),
        outputs=[triton.InferRequestedOutput(name, binary_data=binary) for name in OUTPUTS],
        parameters={"timesteps": 2},
    )
    headers = {} if length is None else {"inference-header-content-length": str(length)}
    response = httpx.post(f"{server.url}/v2/models/tiny/infer", content=body, headers=headers, timeout=PATIENCE_S)
    told = response.raise_for_status().headers.get("inference-header-content-length")
    assert (told is not None) == binary
    result = triton.InferenceServerClient.parse_response_body(response.content, header_length=told and int(told))
    check(outputs(result), expected(IMAGES, 2))


def test_statistics_go_up_with_what_is_asked(client: Any) -> None:
    def counts(**arguments: str) -> tuple[int, int, int]:
        (found,) = client.get_inference_statistics("other", **arguments)["model_stats"]
        stats = found["inference_stats"]
        return found["inference_count"], stats["success"]["count"], stats["fail"]["count"]

    assert counts() == (0, 0, 0)
    client.infer("other", fp32(IMAGES))
    client.infer("other", fp32(IMAGES[:2]))
    with pytest.raises(InferenceServerException):
        client.infer("other", fp32(2 + IMAGES))
    assert counts() == counts(model_version="1") == (18, 2, 1)
    names = [found["name"] for found in client.get_inference_statistics()["model_stats"]]
    assert names == ["other", "tiny"]


def test_models_are_unloaded_and_loaded(client: Any) -> None:
    client.unload_model("other")
    assert not client.is_model_ready("other")
    assert client.is_model_ready("tiny")
    states = {entry["name"]: entry["state"] for entry in client.get_model_repository_index()}
    assert states == {"other": "UNAVAILABLE", "tiny": "READY"}
    with pytest.raises(InferenceServerException) as refused:
        client.unload_model("other", unload_dependents=True)
    assert refusal(refused) == ("404", "the model 'other' is not loaded")
    client.load_model("other")
    assert client.is_model_ready("other")
    check(outputs(client.infer("other", fp32(IMAGES))), expected(IMAGES, 4))
    with pytest.raises(InferenceServerException) as refused:
        client.load_model("other", config='{"max_batch_size": 4}')
    assert refusal(refused)[0] == "400"
    assert "parameters.config" in refusal(refused)[1]


def refused_by(client: Any, model: str = "tiny", inputs: list[Any] | None = None, **arguments: Any) -> tuple[str, str]:
    with pytest.raises(InferenceServerException) as refused:
        client.infer(model, fp32(IMAGES) if inputs is None else inputs, **arguments)
    return refusal(refused)


def test_errors_come_with_the_servers_words_and_status(client: Any) -> None:
    assert refused_by(client, "nope") == ("404", "there is no model 'nope'")
    assert refused_by(client, model_version="7") == ("404", "model 'tiny' has no version 7")
    unknown = refused_by(client, parameters={"colour": "red"})
    assert unknown[0] == "400"
    assert unknown[1].startswith("'colour': unknown; there are ")
    other = triton.InferInput("pictures", [16, 1, 8, 8], "FP32").set_data_from_numpy(IMAGES)
    assert refused_by(client, inputs=[other]) == ("400", "the model's input is 'images', not 'pictures'")
    flat = IMAGES.reshape(16, 64)
    assert refused_by(client, inputs=fp32(flat)) == (
        "400",
        "the images have the shape [16, 64]; it must be [n, 1, 8, 8]",
    )
    doubles = [tensor(IMAGES.astype(np.float64), "FP64")]
    assert refused_by(client, inputs=doubles) == ("400", "'images' may be FP32, UINT8 or BYTES, not 'FP64'")
    many = fp32(np.concatenate([IMAGES, IMAGES]))
    assert refused_by(client, inputs=many) == ("413", "32 images in one request; at most 16 are taken")
    assert refused_by(client, timeout=1)[0] == "400"
    assert refused_by(client, priority=9)[0] == "400"
    shared = triton.InferInput("images", [1, 1, 8, 8], "FP32")
    shared.set_shared_memory("region", 256)
    assert refused_by(client, inputs=[shared]) == (
        "400",
        "shared memory is not offered; send tensors in the body",
    )
    classes = [triton.InferRequestedOutput("spikes", class_count=2)]
    assert refused_by(client, outputs=classes)[0] == "400"
    for ask in (client.get_model_metadata, client.get_model_config, client.get_inference_statistics):
        with pytest.raises(InferenceServerException) as refused:
            ask("nope")
        assert refusal(refused) == ("404", "there is no model 'nope'")
    check(outputs(client.infer("tiny", fp32(IMAGES))), expected(IMAGES, 4))
