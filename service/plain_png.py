"""Small PNGs without anything special, read by libspng: Pillow's reader of everything takes half of a small request.

Plain is 8-bit grey or RGB with no chunk that changes what the picture looks like: no transparency, no orientation, no
animation. Every other file is left to Pillow, and so is a plain one that libspng cannot read.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyspng

_MOST_BYTES = 16 * 1024
_BEGINNING = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
# Wherever these letters stand in the file, in the pixels too: then Pillow takes a little longer, and that is all.
_TELLING = (b"tRNS", b"eXIf", b"iTXt", b"tEXt", b"zTXt", b"acTL")
_HEADER = struct.Struct(">IIBBBBB")
_GREY, _RGB = 0, 2


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
    """The picture, if it is a plain PNG of at most 16 KiB."""
    if len(data) > _MOST_BYTES or not data.startswith(_BEGINNING) or not data.endswith(_END):
        return None
    width, height, depth, colour, _, _, _ = _HEADER.unpack_from(data, len(_BEGINNING))
    if depth != 8 or colour not in (_GREY, _RGB) or any(chunk in data for chunk in _TELLING):
        return None
    return PlainPng(data, width, height)
