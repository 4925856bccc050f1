"""Tensors as the protocol carries them: nested or flat JSON, or bytes after the JSON.

Bytes are little-endian and row-major; an element of type BYTES is four bytes of length and then itself.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from service.handler import Instances, Pictures
from service.problems import InvalidTensor, TooManyImages

INPUT = "images"
DATATYPES: dict[str, np.dtype[Any]] = {"FP32": np.dtype("<f4"), "UINT8": np.dtype("u1")}
BYTES = "BYTES"
_LENGTH = struct.Struct("<I")
# More dimensions, or larger ones, are nobody's image.
_MAX_RANK, _MAX_DIMENSION = 8, 2**31


@dataclass(frozen=True)
class InputTensor:
    """An input as it came: ``content`` is its bytes, or whatever JSON had under ``data``."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    content: memoryview | Any

    @property
    def binary(self) -> bool:
        """Whether it came as bytes."""
        return isinstance(self.content, memoryview)


def checked_shape(value: Any) -> tuple[int, ...]:
    """A shape from JSON. Raises InvalidTensor."""
    if (
        not isinstance(value, list)
        or not 0 < len(value) <= _MAX_RANK
        or not all(type(size) is int and 0 < size < _MAX_DIMENSION for size in value)
    ):
        raise InvalidTensor("a tensor's shape is a list of positive whole numbers, such as [1, 3, 32, 32]")
    return tuple(value)


def images(tensor: InputTensor, max_images: int) -> Pictures | Instances:
    """The images of the input tensor: FP32 or UINT8 [n, C, H, W], or encoded pictures as BYTES [n] or [n, 1].

    FP32 is in the manifest's value range and UINT8 in 0 to 255, which becomes 0 to 1. In JSON a picture is base64.
    Raises InvalidTensor, and TooManyImages for more than ``max_images`` pictures; who takes numbers counts them.
    """
    if tensor.datatype == BYTES:
        return _pictures(tensor, max_images)
    dtype = DATATYPES.get(tensor.datatype)
    if dtype is None:
        raise InvalidTensor(f"{INPUT!r} may be {', '.join(DATATYPES)} or {BYTES}, not {tensor.datatype[:32]!r}")
    values = _from_bytes(tensor, dtype) if tensor.binary else _from_json(tensor, dtype)
    return Instances(values.astype(np.float32) / np.float32(255) if dtype.kind == "u" else values)


def _from_bytes(tensor: InputTensor, dtype: np.dtype[Any]) -> npt.NDArray[np.generic]:
    expected = math.prod(tensor.shape) * dtype.itemsize
    if len(tensor.content) != expected:
        raise InvalidTensor(
            f"{INPUT!r} has {len(tensor.content)} bytes; {tensor.datatype} {list(tensor.shape)} takes {expected}"
        )
    return np.frombuffer(tensor.content, dtype).reshape(tensor.shape)


def _from_json(tensor: InputTensor, dtype: np.dtype[Any]) -> npt.NDArray[np.generic]:
    try:
        values = np.array(tensor.content)
    except ValueError as error:
        raise InvalidTensor(f"the data of {INPUT!r} are ragged: lists of one level have different lengths") from error
    if values.dtype.kind not in "iuf":
        raise InvalidTensor(f"the data of {INPUT!r} must be numbers, nested or flat")
    if values.size != math.prod(tensor.shape) or (values.ndim > 1 and values.shape != tensor.shape):
        raise InvalidTensor(f"the data of {INPUT!r} have the shape {list(values.shape)}, not {list(tensor.shape)}")
    if dtype.kind == "u":
        if values.dtype.kind == "f" or bool(((values < 0) | (values > 255)).any()):
            raise InvalidTensor(f"{INPUT!r} as UINT8 are whole numbers of 0 to 255")
        values = values.astype(dtype)
    return values.reshape(tensor.shape)


def _pictures(tensor: InputTensor, max_images: int) -> Pictures:
    if len(tensor.shape) not in (1, 2) or tensor.shape[1:] not in ((), (1,)):
        raise InvalidTensor(f"{INPUT!r} as {BYTES} has the shape [n], one encoded picture an element")
    count = tensor.shape[0]
    # Before any is looked at: a body has room for millions of elements, which would take seconds.
    if count > max_images:
        raise TooManyImages(f"{count} images in one request; at most {max_images} are taken")
    files = _elements(tensor.content, count) if tensor.binary else _texts(tensor.content, count)
    if len(files) < count:
        raise InvalidTensor(f"{INPUT!r} has {len(files)} elements; its shape is {list(tensor.shape)}")
    return Pictures(files)


def _elements(content: memoryview, count: int) -> list[bytes]:
    files: list[bytes] = []
    at = 0
    while at < len(content):
        if len(files) == count:
            raise InvalidTensor(f"{INPUT!r} has more elements than its shape, which says {count}")
        if len(content) - at < _LENGTH.size:
            raise InvalidTensor(f"the bytes of {INPUT!r} end within an element's length")
        (length,) = _LENGTH.unpack_from(content, at)
        at += _LENGTH.size
        if length > len(content) - at:
            raise InvalidTensor(f"element {len(files)} of {INPUT!r} has fewer bytes than its length says")
        files.append(bytes(content[at : at + length]))
        at += length
    return files


def _texts(data: Any, count: int) -> list[bytes]:
    if isinstance(data, list) and data and all(isinstance(item, list) and len(item) == 1 for item in data):
        data = [item[0] for item in data]
    if not isinstance(data, list) or not all(isinstance(item, str) for item in data):
        raise InvalidTensor(f"the data of {INPUT!r} as {BYTES} must be a list of pictures in base64")
    if len(data) > count:
        raise InvalidTensor(f"{INPUT!r} has more elements than its shape, which says {count}")
    files = []
    for number, text in enumerate(data):
        try:
            files.append(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError) as error:  # ValueError: characters beyond ASCII
            raise InvalidTensor(f"element {number} of {INPUT!r} is not base64: {error}") from error
    return files


def to_elements(texts: Sequence[str]) -> bytes:
    """Texts as the bytes of a BYTES tensor."""
    encoded = [text.encode() for text in texts]
    return b"".join(_LENGTH.pack(len(text)) + text for text in encoded)
