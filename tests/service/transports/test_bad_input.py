"""Bad input gets a clear 4xx and changes nothing."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from service import schemas
from tests import tiny
from tests.images import encode, png_header
from tests.serving import RunningApp

CLASSIFY = "/v1/models/tiny/classify"
GOOD = encode((tiny.images(1)[0, 0] * 255).astype(np.uint8))
PNG = {"content-type": "image/png"}
JSON = {"content-type": "application/json"}


def problem(response: httpx.Response, status: int) -> schemas.Problem:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found = schemas.Problem.model_validate(response.json())
    assert found.status == status
    assert found.type.startswith("urn:problem-type:lmht:")
    assert len(found.detail) > 10
    assert response.headers["x-request-id"] == found.request_id
    return found


@pytest.fixture(autouse=True)
def _the_server_still_answers(server: RunningApp) -> Iterator[None]:
    yield
    assert server.services.scheduler.queued_images == 0
    assert server.post(CLASSIFY, content=GOOD, headers=PNG).status_code == 200


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
FRAMES = [Image.fromarray(NOISE), Image.fromarray(255 - NOISE)]


@pytest.mark.parametrize(
    ("picture", "status"),
    [
        pytest.param(b"this is not an image", 400, id="not an image"),
        pytest.param(GOOD[: len(GOOD) * 2 // 3], 400, id="truncated PNG"),
        pytest.param(encode(NOISE, "JPEG")[:1500], 400, id="truncated JPEG"),
        pytest.param(b"", 400, id="empty body"),
        pytest.param(png_header(30_000, 30_000), 413, id="30,000 x 30,000 pixels in a small file"),
        pytest.param(encode(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]), 400, id="animated GIF"),
        pytest.param(encode(Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257)), 200, id="16-bit PNG"),
        pytest.param(encode(Image.fromarray(NOISE).convert("CMYK"), "JPEG"), 200, id="CMYK JPEG"),
        pytest.param(encode(NOISE, "TIFF"), 400, id="TIFF"),
        pytest.param(bytes(64 * 1024 + 1), 413, id="body over the limit"),
    ],
)
def test_a_raw_body(server: RunningApp, picture: bytes, status: int) -> None:
    response = server.post(CLASSIFY, content=picture, headers=PNG)
    if status == 200:
        assert response.status_code == 200
        return
    problem(response, status)
    if picture:
        form = server.post(CLASSIFY, files=[("image", GOOD), ("image", picture)])
        problem(form, status)


@pytest.mark.parametrize(
    "query",
    [
        "timesteps=0",
        "timesteps=-1",
        "timesteps=four",
        "timesteps=1e9",
        "timesteps=1000000000",
        "timesteps=",
        "colour=red",
        "timesteps=automatic",
        "priority=urgent",
        "min_confidence=1.5",
        "min_confidence=0.9&timesteps=2",
        "deadline_ms=0",
        "top_k=0",
        "include=weights",
        "energy_profile=free",
        "timesteps=1&timesteps=2",
        "%FF=1",
        "id=a%0Ab",
    ],
)
def test_an_option_that_is_unknown_or_out_of_range(server: RunningApp, query: str) -> None:
    name = query.partition("=")[0]
    in_query = problem(server.post(f"{CLASSIFY}?{query}", content=GOOD, headers=PNG), 422)
    assert name == "%FF" or name in in_query.detail
    value = query.partition("=")[2].partition("&")[0]
    if name != "%FF" and "&" not in query and "%" not in query:
        problem(server.post(CLASSIFY, files=[("image", GOOD)], data={name: value}), 422)
        problem(server.post(CLASSIFY, json={"images": [base64.b64encode(GOOD).decode()], name: value}), 422)


@pytest.mark.parametrize("value", [0, -1, 10**9, 10**30, 1.5, "4", None, True, [4], {}])
def test_a_json_budget_of_the_wrong_type_or_size(server: RunningApp, value: Any) -> None:
    body = json.dumps({"images": [base64.b64encode(GOOD).decode()], "timesteps": value})
    response = server.post(CLASSIFY, content=body, headers=JSON)
    if value is None:  # null is not said
        assert response.status_code == 200
    else:
        problem(response, 422)


def test_fewer_time_steps_than_the_smallest_budget_lists_what_there_is(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    from service.app import create_app
    from service.settings import Settings

    folder = tmp_path_factory.mktemp("late")
    tiny.write(folder / "late" / "1", name="late", budgets=(2, 4))
    settings = Settings(models=(folder,), batch_sizes=(1,), threads=1, default_timesteps=1)
    with RunningApp(create_app(settings)) as running:
        running.ready()
        response = running.post("/v1/models/late/classify?timesteps=1", content=GOOD, headers=PNG)
        found = problem(response, 422)
        assert found.timesteps == [2, 4]
        assert "2, 4" in found.detail
        # The deployment's default is no client's mistake: a model without so small a budget runs its smallest.
        assert running.post("/v1/models/late/classify", content=GOOD, headers=PNG).json()["timesteps"] == 2


SHAPE = tiny.images(1).tolist()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b'{"instances": [[[[NaN]]]]}', 400, id="NaN"),
        pytest.param(b'{"instances": [[[[Infinity]]]]}', 400, id="infinity"),
        pytest.param(b'{"instances": [[[[1e999]]]]}', 400, id="overflow"),
        pytest.param(json.dumps({"instances": SHAPE[0]}).encode(), 422, id="one axis less"),
        pytest.param(json.dumps({"instances": [SHAPE]}).encode(), 422, id="one axis more"),
        pytest.param(json.dumps({"instances": [[SHAPE[0][0][:7]]]}).encode(), 422, id="a row less"),
        pytest.param(json.dumps({"instances": [[[[0.5], [0.5, 0.5]]]]}).encode(), 422, id="ragged"),
        pytest.param(json.dumps({"instances": []}).encode(), 422, id="no instances"),
        pytest.param(json.dumps({"instances": {}}).encode(), 422, id="an object"),
        pytest.param(json.dumps({"instances": "0.5"}).encode(), 422, id="text"),
        pytest.param(json.dumps({"instances": [[[["a"] * 8] * 8]]}).encode(), 422, id="letters"),
        pytest.param(json.dumps({"instances": [[[[None] * 8] * 8]]}).encode(), 422, id="nulls"),
        pytest.param(json.dumps({"instances": [[[[True] * 8] * 8]]}).encode(), 422, id="truth values"),
        pytest.param(json.dumps({"instances": [[[[255] * 8] * 8]]}).encode(), 422, id="bytes instead of 0..1"),
        pytest.param(json.dumps({"instances": [[[[-0.01] * 8] * 8]]}).encode(), 422, id="below the range"),
        pytest.param(json.dumps({"instances": [[[[1e300] * 8] * 8]]}).encode(), 422, id="beyond float32"),
        pytest.param(json.dumps({"instances": SHAPE, "images": ["aa"]}).encode(), 422, id="both"),
        pytest.param(b"{}", 422, id="neither"),
        pytest.param(b"[]", 400, id="no object"),
        pytest.param(b"null", 400, id="null"),
        pytest.param(b"{", 400, id="cut short"),
        pytest.param(b"\xff\xfe", 400, id="no UTF-8"),
        pytest.param(b"[" * 50_000, 400, id="deep"),
        pytest.param(b'{"instances":' + b"[" * 500 + b"1" + b"]" * 500 + b"}", 422, id="deep instances"),
        pytest.param(json.dumps({"images": []}).encode(), 422, id="no images"),
        pytest.param(json.dumps({"images": "aa"}).encode(), 422, id="images is text"),
        pytest.param(json.dumps({"images": [7]}).encode(), 422, id="images of numbers"),
        pytest.param(json.dumps({"images": ["%%%="]}).encode(), 400, id="base64 with junk"),
        pytest.param(json.dumps({"images": [base64.b64encode(GOOD).decode() + "!"]}).encode(), 400, id="junk behind"),
        pytest.param(json.dumps({"images": [base64.b64encode(GOOD).decode()[:-3]]}).encode(), 400, id="no padding"),
        pytest.param(json.dumps({"images": ["ä"]}).encode(), 400, id="letters beyond ASCII"),
        pytest.param(json.dumps({"images": [""]}).encode(), 400, id="an empty picture"),
        pytest.param(json.dumps({"images": [base64.b64encode(b"text").decode()]}).encode(), 400, id="not an image"),
        pytest.param(json.dumps({"images": [base64.b64encode(GOOD).decode()] * 9}).encode(), 413, id="nine images"),
        pytest.param(json.dumps({"instances": SHAPE * 9}).encode(), 413, id="nine instances"),
    ],
)
def test_a_json_body(server: RunningApp, body: bytes, status: int) -> None:
    problem(server.post(CLASSIFY, content=body, headers=JSON), status)


def test_instances_a_rounding_beyond_the_range_are_taken(server: RunningApp) -> None:
    values = np.full((1, 1, 8, 8), 1 + 1e-7)
    assert server.post(CLASSIFY, json={"instances": values.tolist()}).status_code == 200


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("multipart/form-data", b"--x--", 400),
        ("multipart/form-data; boundary=x", b"", 400),
        ("multipart/form-data; boundary=" + 300 * "x", b"--" + 300 * b"x" + b"--\r\n", 400),
        ("multipart/form-data; boundary=x", b"junk", 400),
        ("multipart/form-data; boundary=x", b"--x--\r\n", 400),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\nabc', 400),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Type: image/png\r\n\r\nabc\r\n--x--\r\n", 400),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="timesteps"\r\n\r\n\xff\r\n--x--\r\n',
            400,
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="note"\r\n\r\n' + b"a" * 5000 + b"\r\n--x--\r\n",
            400,
        ),
    ],
)
def test_a_form(server: RunningApp, content_type: str, body: bytes, status: int) -> None:
    problem(server.post(CLASSIFY, content=body, headers={"content-type": content_type}), status)


def test_a_form_with_too_many_images_or_fields(server: RunningApp) -> None:
    problem(server.post(CLASSIFY, files=[("image", GOOD)] * 9), 413)
    problem(server.post(CLASSIFY, files=[("image", GOOD)], data={f"field{n}": "1" for n in range(70)}), 400)
    problem(server.post(CLASSIFY, files=[("picture", b"small")]), 400)


def test_pictures_are_too_large_together(server: RunningApp) -> None:
    two = [("image", png_header(6000, 5000))] * 2
    assert "together" in problem(server.post(CLASSIFY, files=two), 413).detail


@pytest.mark.parametrize(
    "media_type",
    ["text/plain", "application/octet-stream", "application/x-www-form-urlencoded", "", "image", "application/jsonl"],
)
def test_a_media_type_that_is_not_read_here(server: RunningApp, media_type: str) -> None:
    response = server.post(CLASSIFY, content=GOOD, headers={"content-type": media_type} if media_type else {})
    problem(response, 415)
    assert response.headers["accept-post"] == "image/*, multipart/form-data, application/json"


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, deflate", "GUNZIP", "ä"])
def test_a_body_encoded_in_another_way_than_is_read_here(server: RunningApp, encoding: str) -> None:
    headers = {**PNG, "content-encoding": encoding.encode("latin-1")}
    response = server.post(CLASSIFY, content=GOOD, headers=headers)
    assert repr(encoding.lower()) in problem(response, 415).detail
    assert response.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_body_that_is_not_compressed_as_it_says(server: RunningApp, encoding: str) -> None:
    found = problem(server.post(CLASSIFY, content=GOOD, headers={**PNG, "content-encoding": encoding}), 400)
    assert f"not {encoding}" in found.detail


def test_an_option_given_in_the_query_and_in_the_body(server: RunningApp) -> None:
    body = {"instances": SHAPE, "timesteps": 2}
    assert "timesteps" in problem(server.post(f"{CLASSIFY}?timesteps=2", json=body), 422).detail
    form = server.post(f"{CLASSIFY}?timesteps=2", files=[("image", GOOD)], data={"timesteps": "2"})
    problem(form, 422)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/nope/classify",
        "/v1/models/tiny/versions/2/classify",
        "/v1/models/tiny/versions/one/classify",
        "/v1/models/tiny/versions/-1/classify",
        "/v1/models/tiny/versions/99999999999999999999999/classify",
        "/v1/models/..%2Ftiny/classify",
    ],
)
def test_an_unknown_model_or_version(server: RunningApp, path: str) -> None:
    problem(server.post(path, content=GOOD, headers=PNG), 404)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/models/nope", 404),
        ("GET", "/v1/models/tiny/versions/2", 404),
        ("GET", "/v1/models/tiny/versions/one", 404),
        ("GET", "/nothing/here", 404),
        ("GET", "/v1/models/", 404),
        ("GET", CLASSIFY, 405),
        ("DELETE", "/v1/models/tiny", 405),
        ("POST", "/livez", 405),
    ],
)
def test_an_address_or_method_that_there_is_not(server: RunningApp, method: str, path: str, status: int) -> None:
    response = server.request(method, path)
    problem(response, status)
    if status == 405:
        assert response.headers["allow"]
