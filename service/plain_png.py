"""Small PNGs without anything special, read by libspng: Pillow's reader of everything takes a third of a small request.

Plain is 8-bit grey or RGB with no chunk that changes what the picture looks like: no transparency, no orientation, no
animation. Every other file is left to Pillow, and so is a plain one that libspng cannot read.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyspng

_MOST_BYTES = 16 * 1024
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHUNK = struct.Struct(">I4s")
_CHECKSUM = struct.Struct(">I")
# Width, height, depth, colour.
_HEADER = struct.Struct(">IIBB")
_GREY, _RGB = 0, 2
# Chunks that say nothing of the pixels that Pillow would heed.
_PLAIN = frozenset({b"IHDR", b"IDAT", b"IEND", b"pHYs", b"sRGB", b"gAMA", b"cHRM", b"tIME", b"bKGD"})


@dataclass(frozen=True)
class PlainPng:
    """A plain PNG whose header was read."""

    data: bytes
    width: int
    height: int

    def pixels(self) -> npt.NDArray[np.uint8] | None:
        """Grey [H, W] or RGB [H, W, 3]; None where libspng cannot read it."""
        try:
            values: npt.NDArray[np.uint8] = pyspng.load(self.data)
        except (RuntimeError, ValueError):
            return None
        if values.shape[:2] != (self.height, self.width) or values.dtype != np.uint8:
            return None
        return values[:, :, 0] if values.ndim == 3 and values.shape[2] == 1 else values


def plain_png(data: bytes) -> PlainPng | None:
    """The picture, if it is a plain PNG of at most 16 KiB with right checksums: libspng does not mind wrong ones."""
    if len(data) > _MOST_BYTES or not data.startswith(_SIGNATURE):
        return None
    kind, start = b"", len(_SIGNATURE)
    try:
        width, height, depth, colour = _HEADER.unpack_from(data, start + _CHUNK.size)
        while kind != b"IEND":
            length, kind = _CHUNK.unpack_from(data, start)
            end = start + _CHUNK.size + length
            (checksum,) = _CHECKSUM.unpack_from(data, end)
            if kind not in _PLAIN or zlib.crc32(data[start + 4 : end]) != checksum:
                return None
            start = end + _CHECKSUM.size
    except struct.error:  # the file ends before its end
        return None
    # After the end nothing may follow: it might be another picture's.
    if depth != 8 or colour not in (_GREY, _RGB) or start != len(data):
        return None
    return PlainPng(data, width, height)
