"""Requests that are nearly right: valid ones, and a seeded mutator of them.

Most mutations keep the framing, so that each request has an answer and the connection goes on; some break it, and then
the server may wait for more, answer or hang up.
"""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import random
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

NUMBERS = (
    b"0", b"-1", b"1e999", b"-0.0", b"1e-320", b"NaN", b"Infinity", b"2147483648", b"9223372036854775808",
    b"18446744073709551616", b"1" * 400, b"0x10", b"1.5", b"null", b"true", b'""', b"[]", b"{}", b"[" * 200,
    b"[" * 3000 + b"]" * 3000,
)  # fmt: skip
TYPES = (
    b"image/png", b"image/jpeg", b"image/", b"application/json", b"application/json; charset=utf-16",
    b"multipart/form-data", b"multipart/form-data; boundary=", b"multipart/form-data; boundary=b",
    b"multipart/form-data; boundary=" + b"b" * 300, b"application/octet-stream", b"text/plain", b"", b"\xff/\x80", b";",
)  # fmt: skip
LENGTHS = (b"0", b"1", b"7", b"-1", b"99999999999", b"1e3", b"0x10", b"", b"1" * 40)
HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-request-id", b"\x80" * 20),
    (b"x-request-id", b"a" * 200),
    (b"traceparent", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01"),
    (b"traceparent", b"ff-\xff"),
    (b"authorization", b"Bearer \xff"),
    (b"authorization", b"Bearer"),
    (b"expect", b"100-continue"),
    (b"expect", b"a miracle"),
    (b"connection", b"keep-alive, Upgrade"),
    (b"accept", b"*/*;q=" + b"9" * 50),
    (b"content-encoding", b"gzip"),
    (b"content-encoding", b"deflate"),
    (b"content-encoding", b"br"),
    (b"content-encoding", b"gzip, gzip"),
    (b"cookie", b"a" * 3000),
    (b"x", b""),
)


@dataclass(frozen=True)
class Raw:
    """A request before it is put on the wire; ``framed`` says that its length is what its headers say."""

    path: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    query: bytes = b""
    framed: bool = True
    wire: bytes | None = None

    def encoded(self) -> bytes:
        """What is sent."""
        if self.wire is not None:
            return self.wire
        names = {name for name, _ in self.headers}
        lines = [(b"host", b"x"), *self.headers]
        if not names & {b"content-length", b"transfer-encoding"}:
            lines.append((b"content-length", b"%d" % len(self.body)))
        target = self.path + (b"?" + self.query if self.query else b"")
        head = b"".join(b"%s: %s\r\n" % line for line in lines)
        return b"POST " + target + b" HTTP/1.1\r\n" + head + b"\r\n" + self.body


def valid(model: str, pictures: Sequence[bytes], numbers: object, shape: tuple[int, ...]) -> list[Raw]:
    """Requests to classify in every form that there is: images, JSON, multipart, V2 in JSON and binary.

    ``numbers`` are instances, nested, of ``shape`` [n, C, H, W].
    """
    native, infer = f"/v1/models/{model}/classify".encode(), f"/v2/models/{model}/infer".encode()
    as_json = (b"content-type", b"application/json")
    texts = [base64.b64encode(picture).decode() for picture in pictures]
    options = {
        "timesteps": "auto",
        "top_k": 3,
        "min_confidence": 0.5,
        "priority": "low",
        "include": ["input"],
        "id": "a",
    }
    requests = [
        Raw(native, ((b"content-type", b"image/png"),), picture, b"timesteps=2&top_k=2&energy_profile=paper")
        for picture in pictures
    ]
    documents = ({"images": texts} | options, {"instances": numbers} | options)
    requests += [Raw(native, (as_json,), json.dumps(document).encode()) for document in documents]
    requests.append(
        Raw(native, (as_json, (b"content-encoding", b"gzip")), gzip.compress(requests[-1].body, 1, mtime=0))
    )
    parts = [
        b'--b\r\ncontent-disposition: form-data; name="image"; filename="a"\r\n\r\n' + picture + b"\r\n"
        for picture in pictures
    ]
    parts += [
        b'--b\r\ncontent-disposition: form-data; name="timesteps"\r\n\r\n2\r\n',
        b'--b\r\ncontent-disposition: form-data; name="include"\r\n\r\ninput\r\n--b--\r\n',
    ]
    requests.append(Raw(native, ((b"content-type", b"multipart/form-data; boundary=b"),), b"".join(parts)))
    outputs = [{"name": "probabilities", "parameters": {"classification": 2}}, {"name": "spikes"}]
    tensor = {"name": "images", "datatype": "FP32", "shape": list(shape), "data": numbers}
    document = {"id": "a", "parameters": {"timesteps": 2}, "inputs": [tensor], "outputs": outputs}
    requests.append(Raw(infer, (as_json,), json.dumps(document).encode()))
    encoded = b"".join(struct.pack("<I", len(picture)) + picture for picture in pictures)
    for datatype, size, content in (("UINT8", list(shape), b"\x07"), ("BYTES", [len(pictures)], encoded)):
        count = 1
        for axis in shape:
            count *= axis
        data = content * count if datatype == "UINT8" else content
        tensor = {
            "name": "images", "datatype": datatype, "shape": size, "parameters": {"binary_data_size": len(data)}
        }  # fmt: skip
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        length = (b"inference-header-content-length", b"%d" % len(head))
        requests.append(Raw(infer, ((b"content-type", b"application/octet-stream"), length), head + data))
    return requests


class Mutator:
    """Makes requests without an end, the same for the same seed."""

    def __init__(self, requests: Sequence[Raw], seed: int) -> None:
        self._requests = requests
        self._random = random.Random(seed)
        self._ways: tuple[tuple[Callable[[Raw], Raw], int], ...] = (
            (self._flip, 6),
            (self._cut, 3),
            (self._repeat, 3),
            (self._splice, 3),
            (self._number, 6),
            (self._drop_key, 2),
            (self._type, 2),
            (self._header, 3),
            (self._length_of_json, 1),
            (self._compressed, 2),
            (self._checksum, 3),
            (self._query, 2),
            (self._path, 1),
            (self._chunks, 1),
            (self._length, 1),
            (self._anything, 1),
        )

    def next(self) -> Raw:
        """Another."""
        request = self._random.choice(self._requests)
        ways, weights = zip(*self._ways, strict=True)
        for way in self._random.choices(ways, weights, k=self._random.choice((1, 1, 1, 2, 3))):
            if request.wire is None:
                request = way(request)
        return request

    # --- Bodies ----------------------------------------------------------------------------------------------------

    def _flip(self, request: Raw) -> Raw:
        body = bytearray(request.body)
        for _ in range(self._random.choice((1, 1, 2, 8, 64)) if body else 0):
            body[self._random.randrange(len(body))] ^= 1 << self._random.randrange(8)
        return dataclasses.replace(request, body=bytes(body))

    def _cut(self, request: Raw) -> Raw:
        return dataclasses.replace(request, body=request.body[: self._random.randrange(len(request.body) + 1)])

    def _repeat(self, request: Raw) -> Raw:
        start, stop = self._stretch(request.body)
        times = self._random.choice((0, 2, 2, 50))
        piece = request.body[start:stop][: 65_536 // max(1, times)]
        return dataclasses.replace(request, body=request.body[:start] + piece * times + request.body[stop:])

    def _splice(self, request: Raw) -> Raw:
        other = self._random.choice(self._requests).body
        start, stop = self._stretch(other)
        at = self._random.randrange(len(request.body) + 1)
        return dataclasses.replace(request, body=request.body[:at] + other[start:stop] + request.body[at:])

    def _number(self, request: Raw) -> Raw:
        found = list(re.finditer(rb"-?\d+(\.\d+)?", request.body[:4096]))
        if not found:
            return self._flip(request)
        match = self._random.choice(found)
        number = self._random.choice(NUMBERS)
        return dataclasses.replace(request, body=request.body[: match.start()] + number + request.body[match.end() :])

    def _drop_key(self, request: Raw) -> Raw:
        found = list(re.finditer(rb'"\w+": ', request.body[:4096]))
        if not found:
            return self._cut(request)
        match = self._random.choice(found)
        key = self._random.choice(
            (b"", b'"images": ', b'"instances": ', b'"data": ', b'"\\ud800": ', b'"parameters": ')
        )
        return dataclasses.replace(request, body=request.body[: match.start()] + key + request.body[match.end() :])

    def _checksum(self, request: Raw) -> Raw:
        """A picture with something wrong behind a right checksum, as no accident would have it."""
        at = request.body.find(b"IHDR")
        if at < 0 or len(request.body) < at + 21:
            return self._flip(request)
        header = bytearray(request.body[at : at + 17])
        for _ in range(self._random.choice((1, 2))):
            header[4 + self._random.randrange(13)] = self._random.choice((0, 1, 2, 3, 4, 6, 8, 16, 127, 255))
        checksum = struct.pack(">I", zlib.crc32(bytes(header)))
        return dataclasses.replace(request, body=request.body[:at] + bytes(header) + checksum + request.body[at + 21 :])

    def _compressed(self, request: Raw) -> Raw:
        body = self._random.choice((gzip.compress(request.body, 1, mtime=0), zlib.compress(request.body), request.body))
        encoding = self._random.choice((b"gzip", b"deflate", b"x-gzip", b"identity"))
        return dataclasses.replace(request, body=body, headers=(*request.headers, (b"content-encoding", encoding)))

    # --- Headers and addresses -------------------------------------------------------------------------------------

    def _type(self, request: Raw) -> Raw:
        others = tuple(header for header in request.headers if header[0] != b"content-type")
        return dataclasses.replace(request, headers=((b"content-type", self._random.choice(TYPES)), *others))

    def _header(self, request: Raw) -> Raw:
        more = self._random.choice(HEADERS)
        return dataclasses.replace(request, headers=(*request.headers, more) * self._random.choice((1, 1, 1, 3)))

    def _length_of_json(self, request: Raw) -> Raw:
        header = (b"inference-header-content-length", self._random.choice(LENGTHS))
        return dataclasses.replace(request, headers=(header, *request.headers))

    def _query(self, request: Raw) -> Raw:
        name = self._random.choice((b"timesteps", b"top_k", b"min_confidence", b"include", b"%00", b"id", b"", b"a=b"))
        value = self._random.choice((*NUMBERS, b"auto", b"%ff%fe", b"%", b"+" * 50))
        return dataclasses.replace(request, query=request.query + b"&" + name + b"=" + value.replace(b" ", b"+"))

    def _path(self, request: Raw) -> Raw:
        old, new = self._random.choice(
            ((b"models/", b"models/%2e%2e/"), (b"v1", b"v2"), (b"v2", b"v1"), (b"/classify", b"/infer"),
             (b"/infer", b"/versions/1/infer"), (b"/classify", b"/versions/99999999999999999999/classify"),
             (b"models", b"models/%c3%28"), (b"/", b"//"))
        )  # fmt: skip
        return dataclasses.replace(request, path=request.path.replace(old, new, 1))

    # --- Framing ---------------------------------------------------------------------------------------------------

    def _chunks(self, request: Raw) -> Raw:
        pieces, at = [], 0
        while at < len(request.body):
            size = self._random.choice((1, 7, 500, 70_000))
            piece = request.body[at : at + size]
            pieces.append(b"%x\r\n" % len(piece) + piece + b"\r\n")
            at += size
            if len(pieces) > 100:
                pieces.append(b"%x\r\n" % (len(request.body) - at) + request.body[at:] + b"\r\n")
                break
        body = b"".join(pieces) + b"0\r\n\r\n"
        if self._random.random() < 0.5:
            body = self._flip(dataclasses.replace(request, body=body)).body
        return dataclasses.replace(
            request, body=body, headers=(*request.headers, (b"transfer-encoding", b"chunked")), framed=False
        )

    def _length(self, request: Raw) -> Raw:
        header = (b"content-length", self._random.choice(LENGTHS))
        return dataclasses.replace(request, headers=(*request.headers, header), framed=False)

    def _anything(self, request: Raw) -> Raw:
        """Whatever was sent, changed anywhere."""
        whole = dataclasses.replace(request, body=request.encoded())
        wire = self._random.choice((self._flip, self._cut, self._repeat, self._splice))(whole).body
        return dataclasses.replace(request, wire=wire, framed=False)

    def _stretch(self, body: bytes) -> tuple[int, int]:
        start = self._random.randrange(len(body) + 1)
        return start, min(len(body), start + self._random.choice((1, 4, 64, 4096)))
