"""Bodies that come compressed, to either API: read as they were, and limited as they were."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from service.problems import BodyTooLarge
from service.transports import bodies
from tests import inference, tiny
from tests.images import encode
from tests.inference import Request
from tests.serving import RunningApp

IMAGES = tiny.images(2, seed=4)
LIMIT = 64 * 1024  # of the fixture `server`, in bytes
CLASSIFY = "/v1/models/tiny/classify"
DECOMPRESSOBJ = zlib.decompressobj
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZip ": gzip.compress,
    "deflate": zlib.compress,
    "identity": bytes,
}
PICTURE = encode((IMAGES[0, 0] * 255).astype(np.uint8))
NATIVE = [
    Request(json.dumps({"instances": IMAGES.tolist()}).encode(), {"content-type": "application/json"}),
    Request(PICTURE, {"content-type": "image/png"}),
]
# Both forms of the Open Inference Protocol; the length of the JSON is that before it was compressed.
INFER = [inference.as_json("FP32", IMAGES.shape, IMAGES.tolist()), inference.fp32(IMAGES)]
EACH = [*((CLASSIFY, request) for request in NATIVE), *((inference.INFER, request) for request in INFER)]
FORMS = pytest.mark.parametrize(
    ("path", "request_"), EACH, ids=["native JSON", "native picture", "tensor in JSON", "tensor in bytes"]
)


def send(server: RunningApp, path: str, request: Request, content: bytes, encoding: str) -> httpx.Response:
    return server.post(path, content=content, headers={**request.headers, "content-encoding": encoding})


def said(response: httpx.Response) -> Any:
    """What of an answer does not change from one time to the next."""
    if response.url.path == inference.INFER:
        return {name: values.tolist() for name, values in inference.read(response).outputs.items()}
    assert response.status_code == 200, response.text
    return response.json()["predictions"]


def refusal(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    document = response.json()
    text: str = document["error"] if response.url.path == inference.INFER else document["detail"]
    return text


@FORMS
@pytest.mark.parametrize("encoding", COMPRESS)
def test_it_is_answered_like_the_plain_one(server: RunningApp, path: str, request_: Request, encoding: str) -> None:
    plain = said(server.post(path, content=request_.content, headers=request_.headers))
    assert said(send(server, path, request_, COMPRESS[encoding](request_.content), encoding)) == plain


@FORMS
def test_gzip_may_be_put_together_from_several_pieces(server: RunningApp, path: str, request_: Request) -> None:
    plain = said(server.post(path, content=request_.content, headers=request_.headers))
    pieces = [request_.content[start : start + 50] for start in range(0, len(request_.content), 50)]
    content = b"".join(map(gzip.compress, [b"", *pieces, b""]))
    assert said(send(server, path, request_, content, "gzip")) == plain


@FORMS
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_it_is_refused_where_it_is_cut_short_or_goes_on(
    server: RunningApp, path: str, request_: Request, encoding: str
) -> None:
    content = COMPRESS[encoding](request_.content)
    for kept in (1, 11, len(content) // 2, len(content) - 1):
        assert "cut short" in refusal(send(server, path, request_, content[:kept], encoding), 400)
    assert f"not {encoding}" in refusal(send(server, path, request_, content + b"more", encoding), 400)
    broken = bytearray(content)
    broken[-5 if encoding == "gzip" else -1] ^= 1  # within the checksum
    assert f"not {encoding}" in refusal(send(server, path, request_, bytes(broken), encoding), 400)
    assert "body is empty" in refusal(send(server, path, request_, COMPRESS[encoding](b""), encoding), 400)
    assert "body is empty" in refusal(send(server, path, request_, b"", encoding), 400)


@FORMS
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb_is_refused_at_the_limit(server: RunningApp, path: str, request_: Request, encoding: str) -> None:
    bomb = COMPRESS[encoding](bytes(32 * 1024 * 1024))
    assert len(bomb) < LIMIT
    assert "once it is decompressed" in refusal(send(server, path, request_, bomb, encoding), 413)
    assert "once it is decompressed" in refusal(send(server, path, request_, bomb[: len(bomb) // 2], encoding), 413)


def test_the_limit_itself_is_taken() -> None:
    content = np.random.default_rng(0).bytes(1000) * 10
    for compressed in (gzip.compress(content), gzip.compress(content[:1]) + gzip.compress(content[1:])):
        assert bodies.decoded(compressed, "gzip", len(content)) == content
        with pytest.raises(BodyTooLarge):
            bodies.decoded(compressed, "gzip", len(content) - 1)
    assert bodies.decoded(zlib.compress(content), "deflate", len(content)) == content


def test_what_is_unpacked_of_a_bomb_is_not_much_more_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    read = reading(monkeypatch)
    with pytest.raises(BodyTooLarge):
        bodies.decoded(gzip.compress(bytes(32 * 1024 * 1024)), "gzip", 1000)
    assert read.bytes_out <= 1001


def test_many_empty_pieces_take_no_longer_than_their_number_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left after each piece is copied: all of the rest at once would be quadratic, minutes for some MiB."""
    piece = gzip.compress(b"")
    copied = []
    for count in (2000, 4000):
        read = reading(monkeypatch)
        assert bodies.decoded(piece * count, "gzip", 1000) == b""
        copied.append(read.bytes_in)
    assert copied[1] < 2.5 * copied[0]


class Reading:
    """Counts what goes into zlib and what comes out."""

    def __init__(self) -> None:
        self.bytes_in = self.bytes_out = 0


def reading(monkeypatch: pytest.MonkeyPatch) -> Reading:
    counted = Reading()

    class Spy:
        def __init__(self, wbits: int) -> None:
            self._reader = DECOMPRESSOBJ(wbits)

        def decompress(self, data: bytes, max_length: int) -> bytes:
            counted.bytes_in += len(data)
            content = self._reader.decompress(data, max_length)
            counted.bytes_out += len(content)
            return content

        def __getattr__(self, name: str) -> Any:
            return getattr(self._reader, name)

    monkeypatch.setattr(zlib, "decompressobj", Spy)
    return counted
