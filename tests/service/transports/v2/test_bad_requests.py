"""What is wrong with a request to infer is told as the protocol tells it, and changes nothing."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests import tiny
from tests.images import encode, png_header
from tests.inference import (
    INFER,
    LENGTH,
    Request,
    as_bytes,
    as_json,
    check,
    elements,
    error,
    expected,
    fp32,
    in_base64,
    post,
    read,
)
from tests.serving import RunningApp

IMAGE = tiny.images(1, seed=5)
PNG = encode((IMAGE[0, 0] * 255).astype(np.uint8))
GOOD = fp32(IMAGE)
SHAPE = [1, 1, 8, 8]
DATA = IMAGE.ravel().tolist()
TENSOR = {"name": "images", "shape": SHAPE, "datatype": "FP32", "data": DATA}


def answers(server: RunningApp) -> None:
    """It still does."""
    assert server.services.scheduler.queued_images == 0
    check(read(post(server, GOOD)).outputs, expected(IMAGE, 4))


@pytest.fixture(autouse=True)
def _the_server_still_answers(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "server" in request.fixturenames:
        answers(request.getfixturevalue("server"))


def document(**members: Any) -> bytes:
    """A request in order but for these members, of which None takes one away."""
    whole = {"inputs": [TENSOR], **members}
    return json.dumps({name: value for name, value in whole.items() if value is not None}).encode()


def tensor(**members: Any) -> bytes:
    """A tensor in order but for these members, of which None takes one away."""
    whole = {**TENSOR, **members}
    return document(inputs=[{name: value for name, value in whole.items() if value is not None}])


def output(name: Any = "logits", **parameters: Any) -> bytes:
    return document(outputs=[{"name": name, "parameters": parameters}])


def raw(content: bytes, length: str = "0", content_type: str = "application/octet-stream") -> Request:
    return Request(content, {LENGTH: length, "content-type": content_type})


def behind(count: int, **members: Any) -> Request:
    """``count`` zeros behind a tensor that is described so."""
    whole = {"name": "images", "shape": SHAPE, "datatype": "FP32", "parameters": {"binary_data_size": 256}, **members}
    head = json.dumps({"inputs": [whole]}).encode()
    return raw(head + bytes(count), str(len(head)))


def numbers(values: Any, datatype: str = "FP32", shape: Any = None) -> Request:
    return as_json(datatype, SHAPE if shape is None else shape, values)


REQUESTS: dict[str, tuple[Request | bytes, str]] = {
    # The body
    "nothing": (b"", "the body is empty"),
    "no JSON": (b"images", "the request is not JSON"),
    "cut short": (document()[:-1], "the request is not JSON"),
    "NaN": (document().replace(b"0.", b"NaN, 0.", 1), "the request is not JSON"),
    "no UTF-8": (b'{"id": "\xff"}', "the request is not JSON"),
    "deep": (b"[" * 50_000, "the request is not JSON"),
    "a list": (b"[]", "must be a JSON object"),
    "null": (b"null", "must be a JSON object"),
    "length beyond the body": (raw(document(), "100000"), "no length within the body's"),
    "negative length": (raw(document(), "-1"), "no length within the body's"),
    "length is a word": (raw(document(), "all"), "no length within the body's"),
    "length of many digits": (raw(document(), "9" * 5000), "no length within the body's"),
    "length within the JSON": (raw(document(), "20"), "the request is not JSON"),
    "unknown member": (document(timesteps=2), "'timesteps': unknown here; options stand under 'parameters'"),
    "several unknown members": (document(b=1, a=2), "'a', 'b': unknown here"),
    "id is a number": (document(id=7), "id: a text of at most 1024 characters"),
    "long id": (document(id="i" * 1025), "id: a text of at most 1024 characters"),
    "parameters are a list": (document(parameters=[]), "parameters must be a JSON object"),
    # Bytes alone
    "a byte less": (raw(bytes(255)), "255 bytes are no whole images of FP32 [1, 8, 8], 256 bytes each"),
    "no picture": (raw(b"junk", content_type="image/png"), "no picture of a kind that is read here"),
    "numbers out of range": (raw(struct.pack("<f", 1.5) * 64), "values outside 0 to 1"),
    "not a number": (raw(struct.pack("<f", float("nan")) * 64), "values outside 0 to 1"),
    # The input
    "no inputs": (document(inputs=None), "'inputs' must be a list of one tensor, 'images'"),
    "inputs are an object": (document(inputs=TENSOR), "'inputs' must be a list of one tensor"),
    "empty inputs": (document(inputs=[]), "'inputs' must be a list of one tensor"),
    "two inputs": (document(inputs=[TENSOR, TENSOR]), "'inputs' must be a list of one tensor"),
    "an input is a number": (document(inputs=[7]), "'inputs' must be a list of one tensor"),
    "another input": (tensor(name="input"), "the model's input is 'images', not 'input'"),
    "an input without a name": (tensor(name=None), "the model's input is 'images', not 'None'"),
    "unknown in a tensor": (tensor(layout="NCHW"), "'layout': unknown in a tensor"),
    "a tensor's parameters are text": (tensor(parameters="none"), "a tensor's parameters must be a JSON object"),
    "a tensor's unknown parameter": (
        tensor(parameters={"timesteps": 2}),
        "'timesteps': unknown; there are binary_data",
    ),
    "shared memory": (tensor(parameters={"shared_memory_region": "a"}), "shared memory is not offered"),
    "neither data nor bytes": (tensor(data=None), "needs either 'data' or the parameter 'binary_data_size'"),
    "data and bytes": (behind(256, data=DATA), "needs either 'data' or the parameter 'binary_data_size'"),
    "no datatype": (tensor(datatype=None), "'images' needs a 'datatype'"),
    "datatype is a number": (tensor(datatype=32), "'images' needs a 'datatype'"),
    "another datatype": (tensor(datatype="FP16"), "'images' may be FP32, UINT8 or BYTES, not 'FP16'"),
    "size is text": (behind(256, parameters={"binary_data_size": "256"}), "'binary_data_size' is a whole number"),
    "size is true": (behind(1, parameters={"binary_data_size": True}), "'binary_data_size' is a whole number"),
    "negative size": (behind(0, parameters={"binary_data_size": -256}), "0 bytes follow the JSON, where the tensors"),
    "too few bytes": (behind(255), "255 bytes follow the JSON, where the tensors have 256"),
    "too many bytes": (behind(257), "257 bytes follow the JSON, where the tensors have 256"),
    "bytes behind data": (raw(document() + b"1234", str(len(document()))), "4 bytes follow the JSON"),
    "size without bytes": (tensor(data=None, parameters={"binary_data_size": 256}), "0 bytes follow the JSON"),
    # Its shape
    "no shape": (tensor(shape=None), "a tensor's shape is a list"),
    "empty shape": (tensor(shape=[]), "a tensor's shape is a list"),
    "shape is a number": (tensor(shape=64), "a tensor's shape is a list"),
    "shape of text": (tensor(shape=["1", "1", "8", "8"]), "a tensor's shape is a list"),
    "shape of fractions": (tensor(shape=[1.0, 1, 8, 8]), "a tensor's shape is a list"),
    "shape of truth values": (tensor(shape=[True, True, 8, 8]), "a tensor's shape is a list"),
    "negative shape": (tensor(shape=[-1, 1, 8, 8]), "a tensor's shape is a list"),
    "no images": (numbers([], shape=[0, 1, 8, 8]), "a tensor's shape is a list"),
    "no images of bytes": (as_bytes("FP32", [0, 1, 8, 8], b""), "a tensor's shape is a list"),
    "no pictures": (numbers([], "BYTES", [0]), "a tensor's shape is a list"),
    "nothing, but huge": (numbers([], shape=[0, *[2**31 - 1] * 7]), "a tensor's shape is a list"),
    "too many dimensions": (numbers(DATA, shape=[1] * 7 + [8, 8]), "a tensor's shape is a list"),
    "a huge dimension": (numbers(DATA, shape=[2**31, 1, 8, 8]), "a tensor's shape is a list"),
    "huge dimensions": (numbers(DATA, shape=[2**31 - 1] * 8), "the data of 'images' have the shape [64], not"),
    "bytes of another shape": (behind(256, shape=[2, 1, 8, 8]), "has 256 bytes; FP32 [2, 1, 8, 8] takes 512"),
    "one row less": (numbers(DATA[:56], shape=[1, 1, 7, 8]), "have the shape [1, 1, 7, 8]; it must be [n, 1, 8, 8]"),
    "one axis less": (numbers(DATA, shape=[1, 8, 8]), "have the shape [1, 8, 8]; it must be [n, 1, 8, 8]"),
    "one axis more": (numbers(DATA, shape=[1, 1, 1, 8, 8]), "it must be [n, 1, 8, 8]"),
    # Numbers in JSON
    "ragged": (numbers([[1, 0], [1]], shape=[2, 2]), "the data of 'images' are ragged"),
    "data are an object": (numbers({}), "must be numbers, nested or flat"),
    "letters": (numbers(["a"] * 64), "must be numbers, nested or flat"),
    "truth values": (numbers([True] * 64), "must be numbers, nested or flat"),
    "nulls": (numbers([None] * 64), "must be numbers, nested or flat"),
    "too few numbers": (numbers(DATA[1:]), "the data of 'images' have the shape [63], not [1, 1, 8, 8]"),
    "nested otherwise": (numbers(IMAGE.reshape(8, 8).tolist()), "have the shape [8, 8], not [1, 1, 8, 8]"),
    "above the range": (numbers([1.5] * 64), "values outside 0 to 1"),
    "huge numbers": (numbers([10**30] * 64), "values outside 0 to 1"),
    "fractions as UINT8": (numbers(DATA, "UINT8"), "as UINT8 are whole numbers of 0 to 255"),
    "256 as UINT8": (numbers([256] * 64, "UINT8"), "as UINT8 are whole numbers of 0 to 255"),
    "-1 as UINT8": (numbers([-1] * 64, "UINT8"), "as UINT8 are whole numbers of 0 to 255"),
    # Pictures
    "pictures in rows": (numbers(in_base64([PNG, PNG]), "BYTES", [1, 2]), "as BYTES has the shape [n]"),
    "pictures in a box": (numbers(in_base64([PNG]), "BYTES", [1, 1, 1]), "as BYTES has the shape [n]"),
    "pictures are text": (numbers("abcd", "BYTES", [1]), "must be a list of pictures in base64"),
    "pictures are numbers": (numbers([7], "BYTES", [1]), "must be a list of pictures in base64"),
    "no base64": (numbers(["%%%="], "BYTES", [1]), "element 0 of 'images' is not base64"),
    "letters beyond ASCII": (numbers(["ä"], "BYTES", [1]), "element 0 of 'images' is not base64"),
    "base64 of text": (numbers(in_base64([PNG, b"text"]), "BYTES", [2]), "no picture of a kind that is read here"),
    "an empty picture": (numbers([""], "BYTES", [1]), "no picture of a kind that is read here"),
    "a picture less in JSON": (numbers(in_base64([PNG]), "BYTES", [2]), "has 1 elements; its shape is [2]"),
    "a picture less": (as_bytes("BYTES", [2], elements([PNG])), "has 1 elements; its shape is [2]"),
    "a picture more in JSON": (numbers(in_base64([PNG, PNG]), "BYTES", [1]), "has more elements than its shape"),
    "a picture more": (as_bytes("BYTES", [1], elements([PNG, PNG])), "has more elements than its shape, which says 1"),
    "half a length": (as_bytes("BYTES", [2], elements([PNG]) + b"\1\0"), "end within an element's length"),
    "half a picture": (as_bytes("BYTES", [1], elements([PNG])[:-1]), "element 0 of 'images' has fewer bytes"),
    "a length of 4 GiB": (as_bytes("BYTES", [1], b"\xff" * 4 + PNG), "element 0 of 'images' has fewer bytes"),
    "a truncated picture": (as_bytes("BYTES", [1], elements([PNG[:60]])), "picture"),
    # Outputs
    "outputs are an object": (document(outputs={}), "'outputs' must be a list of tensors, by their names"),
    "outputs by name alone": (document(outputs=["logits"]), "'outputs' must be a list of tensors, by their names"),
    "another output": (output("energy"), "outputs are logits, probabilities, spikes, synops, energy_nj, not 'energy'"),
    "an output without a name": (document(outputs=[{}]), "not 'None'"),
    "an output's name is a list": (output(["logits"]), "not \"['logits']\""),
    "one output twice": (document(outputs=[{"name": "logits"}] * 2), "an output is named twice"),
    "unknown in an output": (document(outputs=[{"name": "logits", "datatype": "FP32"}]), "unknown in an output"),
    "an output's parameters are a list": (
        document(outputs=[{"name": "logits", "parameters": []}]),
        "an output's parameters must be a JSON object",
    ),
    "an output's unknown parameter": (output(top_k=1), "'top_k': unknown; there are binary_data, classification"),
    "an output in shared memory": (output(shared_memory_region="a"), "shared memory is not offered"),
    "binary_data is a number": (output(binary_data=1), "binary_data: true or false"),
    "classes are text": (output(classification="2"), "classification: a whole number of classes"),
    "classes are true": (output(classification=True), "classification: a whole number of classes"),
    "negative classes": (output(classification=-1), "classification: a whole number of classes"),
    "classes of spikes": (output("spikes", classification=2), "goes with logits and probabilities, not with 'spikes'"),
}
PARAMETERS: dict[str, tuple[Any, str]] = {
    "unknown": ({"top_k": 2}, "'top_k': unknown; there are binary_data_output, deadline_ms, energy_profile"),
    "long name": ({"x" * 1000: 2}, f"'{'x' * 64}': unknown"),
    "shared memory": ({"shared_memory_region": "a"}, "shared memory is not offered"),
    "binary_data_output is text": ({"binary_data_output": "true"}, "binary_data_output: true or false"),
    "priority 4": ({"priority": 4}, "priority: 1, 2 or 3, the highest first, or 0 for the default"),
    "priority -1": ({"priority": -1}, "priority: 1, 2 or 3"),
    "priority is true": ({"priority": True}, "priority"),
    "another priority": ({"priority": "urgent"}, "priority"),
    "timeout is text": ({"timeout": "1000"}, "timeout: a whole number of microseconds"),
    "timeout is a fraction": ({"timeout": 0.5}, "timeout: a whole number of microseconds"),
    "timeout is true": ({"timeout": True}, "timeout: a whole number of microseconds"),
    "negative timeout": ({"timeout": -1}, "timeout: a whole number of microseconds"),
    "timeout of hours": ({"timeout": 3_600_000_001}, "less than or equal to 3600000"),
    "timeout and deadline": ({"timeout": 9, "deadline_ms": 9}, "timeout and deadline_ms are the same"),
    "no deadline": ({"deadline_ms": 0}, "deadline_ms: input should be greater than 0"),
    "no time-steps": ({"timesteps": 0}, "timesteps"),
    "time-steps as text": ({"timesteps": "4"}, "timesteps"),
    "time-steps as a fraction": ({"timesteps": 1.5}, "timesteps"),
    "another word": ({"timesteps": "automatic"}, "timesteps"),
    "confidence of 2": ({"min_confidence": 2}, "min_confidence"),
    "confidence at one budget": ({"min_confidence": 0.9, "timesteps": 2}, 'goes with timesteps "auto" only'),
    "another profile": ({"energy_profile": "free"}, "there are horowitz-45nm-fp32"),
}
CASES = [
    *(pytest.param(what, part, id=name) for name, (what, part) in REQUESTS.items()),
    *(pytest.param(document(parameters=p), part, id=f"parameters: {n}") for n, (p, part) in PARAMETERS.items()),
]


@pytest.mark.parametrize(("request_", "part"), CASES)
def test_a_request_that_is_wrong_is_told_what_is_wrong_with_it(
    server: RunningApp, request_: Request | bytes, part: str
) -> None:
    sent = request_ if isinstance(request_, Request) else Request(request_, {})
    text = error(post(server, sent), 400)
    assert part in text
    assert len(text) < 1000


@pytest.mark.parametrize(
    ("request_", "part"),
    [
        pytest.param(fp32(tiny.images(9)), "9 images in one request; at most 8", id="nine images"),
        pytest.param(raw(bytes(9 * 256)), "9 images in one request; at most 8", id="nine images as bytes alone"),
        pytest.param(as_bytes("BYTES", [9], elements([PNG] * 9)), "9 images in one request", id="nine pictures"),
        pytest.param(numbers(in_base64([PNG] * 9), "BYTES", [9]), "9 images", id="nine pictures in JSON"),
        pytest.param(as_bytes("BYTES", [9999], bytes(4 * 9999)), "9999 images", id="many empty pictures"),
        pytest.param(
            as_bytes("BYTES", [1], elements([png_header(30_000, 30_000)])), "30000×30000 pixels", id="a large picture"
        ),
        pytest.param(
            as_bytes("BYTES", [2], elements([png_header(6000, 5000)] * 2)), "pixels together", id="large together"
        ),
        pytest.param(raw(png_header(30_000, 30_000), content_type="image/png"), "30000×30000", id="a large raw one"),
        pytest.param(raw(bytes(64 * 1024 + 1)), "the body has more than 65536 bytes", id="a large body"),
    ],
)
def test_more_than_is_taken_is_a_413(server: RunningApp, request_: Request, part: str) -> None:
    assert part in error(post(server, request_), 413)


def test_elements_are_not_read_beyond_those_that_the_shape_has(
    server: RunningApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body has room for millions of empty ones, and reading each would hold up everybody."""
    from service.transports.v2 import tensors

    read_at: list[int] = []

    class Length:
        size = 4

        @staticmethod
        def unpack_from(content: memoryview, at: int) -> tuple[int]:
            read_at.append(at)
            return (0,)

    monkeypatch.setattr(tensors, "_LENGTH", Length)
    many = bytes(40_000)
    assert "which says 2" in error(post(server, as_bytes("BYTES", [2], many)), 400)
    assert "10000 images" in error(post(server, as_bytes("BYTES", [10_000], many)), 413)
    assert len(read_at) <= 3


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/v2/models/nope/infer", "there is no model 'nope'"),
        ("/v2/models/tiny/versions/2/infer", "model 'tiny' has no version 2"),
        ("/v2/models/tiny/versions/one/infer", "a version is a whole number, not 'one'"),
        ("/v2/models/tiny/versions/-1/infer", "a version is a whole number"),
        ("/v2/models/tiny/versions/99999999999999999999999/infer", "a version is a whole number"),
        ("/v2/models/..%2Ftiny/infer", "there is nothing at this address"),
        ("/v2/models//infer", "there is nothing at this address"),
        ("/v2/models/tiny/infer/", "there is nothing at this address"),
        ("/v2/models/tiny/generate", "there is nothing at this address"),
    ],
)
def test_an_unknown_model_version_or_address_is_a_404(server: RunningApp, path: str, part: str) -> None:
    assert part in error(post(server, GOOD, path), 404)
    # Who misspelt the name is told so, whatever else is wrong.
    assert part in error(post(server, Request(b"junk", {}), path), 404)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", INFER, 405),
        ("PUT", INFER, 405),
        ("POST", "/v2", 405),
        ("POST", "/v2/health/live", 405),
        ("DELETE", "/v2/models/tiny", 405),
        ("GET", "/v2/repository/index", 405),
        ("GET", "/v2/repository/models/tiny/load", 405),
        ("GET", "/v2/", 404),
        ("GET", "/v2/models", 404),
        ("GET", "/v2/models/nope", 404),
        ("GET", "/v2/models/nope/ready", 404),
        ("GET", "/v2/models/nope/config", 404),
        ("GET", "/v2/models/nope/stats", 404),
        ("GET", "/v2/models/tiny/versions/9/ready", 404),
        ("GET", "/v2/models/tiny/versions/nine/config", 404),
        ("GET", "/v2/systemsharedmemory/status", 404),
    ],
)
def test_an_address_or_method_that_there_is_not_has_the_protocols_form(
    server: RunningApp, method: str, path: str, status: int
) -> None:
    response = server.request(method, path)
    error(response, status)
    if status == 405:
        assert response.headers["allow"] in ("GET", "POST")


def test_the_form_is_that_of_the_address_and_not_of_what_begins_like_it(server: RunningApp) -> None:
    other = server.get("/v2x")
    assert other.status_code == 404
    assert other.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("encoding", ["br", "gzip, deflate"])
def test_an_encoding_that_is_not_read_here_is_a_415(server: RunningApp, encoding: str) -> None:
    headers = GOOD.headers | {"content-encoding": encoding}
    response = post(server, Request(GOOD.content, headers))
    assert repr(encoding) in error(response, 415)
    assert response.headers["accept-encoding"] == "gzip, deflate"


def test_an_error_has_the_id_of_its_request(server: RunningApp) -> None:
    bad = document(
        id="mine", parameters={"timesteps": 2}, outputs=[{"name": "logits"}], inputs=[{**TENSOR, "shape": SHAPE}]
    )
    headers = {"x-request-id": "header"}
    assert post(server, Request(b"junk", headers)).headers["x-request-id"] == "header"
    assert post(server, Request(bad, headers)).headers["x-request-id"] == "mine"
    # As far as it could be read.
    wrong = document(id="mine", inputs=[{**TENSOR, "data": [2.0] * 64}])
    response = post(server, Request(wrong, headers))
    assert "values outside" in error(response, 400)
    assert response.headers["x-request-id"] == "mine"
