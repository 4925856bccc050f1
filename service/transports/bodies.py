"""From a request's body to pictures or numbers and options: one raw image, a multipart form, or JSON.

A body may be compressed; its limit holds before and after.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import zlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import orjson
from starlette.types import Receive

from service import options
from service.handler import Instances, Pictures
from service.options import Options
from service.problems import (
    BodyTooLarge,
    InvalidInstances,
    InvalidOption,
    RequestTimeout,
    UnreadableBody,
    UnsupportedMediaType,
)
from service.transports.forms import parse_form

T = TypeVar("T")
ACCEPTED = "image/*, multipart/form-data, application/json"
# Smaller bodies are parsed on the event loop before the hand-over to a thread pays.
QUICK_BYTES = 64 * 1024
# zlib copies what is left behind each member of a compressed body: all of the rest would be too much, were there many.
_STRETCH_BYTES = 4096
# Content-Encoding to zlib's number for the format around the data.
_ENCODINGS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class ClientGone(Exception):
    """The client closed the connection."""


@dataclass(frozen=True)
class Parsed:
    """What a body and a query said."""

    images: Pictures | Instances
    options: Options


@dataclass(frozen=True)
class Head:
    """What a request's headers say of its body.

    ``length`` is the Content-Length, None where it says nothing; ``encoding`` is empty where it is not compressed;
    ``json_length`` is the Inference-Header-Content-Length of the Open Inference Protocol, None where it is absent, and
    negative where it is no number.
    """

    length: int | None = None
    content_type: str = ""
    encoding: str = ""
    json_length: int | None = None


def read_head(headers: Iterable[tuple[bytes, bytes]]) -> Head:
    """Read the headers. Raises UnsupportedMediaType for an encoding that is not read here."""
    length, content_type, encoding, json_length = None, "", "", None
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            length = int(value)
        elif name == b"content-type":
            content_type = value.decode("latin-1")
        elif name == b"content-encoding":
            encoding = value.decode("latin-1").strip().lower()
        elif name == b"inference-header-content-length":
            json_length = int(value) if value.isdigit() and len(value) < 12 else -1
    if encoding == "identity":
        encoding = ""
    if encoding and encoding not in _ENCODINGS:
        raise UnsupportedMediaType(
            f"a body encoded as {encoding[:32]!r} is not read here", headers={"accept-encoding": "gzip, deflate"}
        )
    return Head(length, content_type, encoding, json_length)


def decoded(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """A compressed body as it was, for an encoding that `read_head` lets through.

    Raises BodyTooLarge as soon as it exceeds the limit, and UnreadableBody.
    """
    parts: list[bytes] = []
    room = limit_bytes
    reader = None
    try:
        for start in range(0, len(body), _STRETCH_BYTES):
            stretch = body[start : start + _STRETCH_BYTES]
            while stretch:  # gzip allows several members, one after the other
                if reader is None or reader.eof:
                    reader = zlib.decompressobj(_ENCODINGS[encoding])
                parts.append(reader.decompress(stretch, room + 1))
                room -= len(parts[-1])
                if room < 0:
                    raise BodyTooLarge(f"the body has more than {limit_bytes} bytes once it is decompressed")
                stretch = reader.unused_data
    except zlib.error as error:
        raise UnreadableBody(f"the body is not {encoding}: {error}") from error
    if reader is not None and not reader.eof:
        raise UnreadableBody(f"the body is cut short: its {encoding} data have no end")
    return b"".join(parts)


async def read_body(
    receive: Receive,
    declared_bytes: int | None,
    limit_bytes: int,
    timeout_s: float,
    hold: Callable[[int], None] = lambda size: None,
) -> bytes:
    """The whole body, reading no further than the limit.

    ``declared_bytes``, the Content-Length, can only make the refusal earlier: it may lie or be absent. ``hold`` is told
    of each piece's bytes before they are kept, and what it raises ends the reading.

    Raises BodyTooLarge, RequestTimeout and ClientGone.
    """
    # Without closing, the server would go on reading what is refused, to keep the connection usable.
    too_large = BodyTooLarge(f"the body has more than {limit_bytes} bytes", headers={"connection": "close"})
    if declared_bytes is not None and declared_bytes > limit_bytes:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > limit_bytes:
                    raise too_large
                hold(len(chunk))
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
    except TimeoutError as error:
        raise RequestTimeout(f"the body was not here after {timeout_s:g} s") from error


async def parse(
    body: bytes,
    content_type: str,
    query: bytes,
    max_images: int,
    in_thread: Callable[[Callable[[], Parsed]], Awaitable[Parsed]],
) -> Parsed:
    """Read a body by its media type; options may stand in the query in any case.

    Raises UnsupportedMediaType, UnreadableBody, InvalidInstances, InvalidOption and TooManyImages.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    from_query = options.from_query(query)
    if not body:
        raise UnreadableBody("the body is empty")
    if media_type.startswith("image/"):
        return Parsed(Pictures((body,)), from_query)
    if media_type == "multipart/form-data":

        def work() -> Parsed:
            return _from_form(body, content_type, from_query, max_images)
    elif media_type == "application/json":

        def work() -> Parsed:
            return _from_json(body, from_query)
    else:
        raise UnsupportedMediaType(
            f"a body of type {media_type[:64]!r} is not read here; send {ACCEPTED}", headers={"accept-post": ACCEPTED}
        )
    return work() if len(body) <= QUICK_BYTES else await in_thread(work)


def _from_form(body: bytes, content_type: str, from_query: Options, max_images: int) -> Parsed:
    form = parse_form(body, content_type, file_field="image", max_files=max_images)
    if not form.files:
        raise UnreadableBody("the form has no field 'image'")
    return Parsed(Pictures(form.files), _merged(from_query, options.from_text(form.fields)))


def _from_json(body: bytes, from_query: Options) -> Parsed:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UnreadableBody(f"the body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise UnreadableBody("the body must be a JSON object")
    if ("images" in document) == ("instances" in document):
        raise InvalidOption("the body needs either 'images' or 'instances', and not both")
    pictures, numbers = document.pop("images", None), document.pop("instances", None)
    images = _pictures(pictures) if numbers is None else _instances(numbers)
    return Parsed(images, _merged(from_query, options.from_values(document)))


def _pictures(value: Any) -> Pictures:
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise InvalidOption("'images' must be a list of pictures in base64, with at least one")
    files = []
    for number, text in enumerate(value):
        try:
            files.append(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError) as error:  # ValueError: characters beyond ASCII
            raise UnreadableBody(f"images[{number}] is not base64: {error}") from error
    return Pictures(files)


def _instances(value: Any) -> Instances:
    if not isinstance(value, list):
        raise InvalidInstances("'instances' must be nested lists of numbers")
    try:
        return Instances(np.array(value))
    except ValueError as error:
        raise InvalidInstances("'instances' is ragged: its lists have different lengths") from error


def _merged(first: Options, second: Options) -> Options:
    twice = first.model_fields_set & second.model_fields_set
    if twice:
        raise InvalidOption(f"{', '.join(sorted(twice))}: given in the query and in the body")
    if not first.model_fields_set:
        return second
    return second.model_copy(update={name: getattr(first, name) for name in first.model_fields_set})
