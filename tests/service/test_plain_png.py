"""Plain PNGs go through libspng; whatever it is, the answer is the one that Pillow's reader would lead to."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from models.bundle import InputSpec, Picture
from service import pictures, plain_png
from service.problems import Problem

LIMIT = 1_000_000


def png(pixels: npt.NDArray[Any], **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    return file.getvalue()


def grey(height: int = 6, width: int = 5, seed: int = 0) -> npt.NDArray[Any]:
    return np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)


def colour(height: int = 6, width: int = 5) -> npt.NDArray[Any]:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


def spec(channels: Literal[1, 3], height: int, width: int, method: Literal["resize", "ink"] = "resize") -> InputSpec:
    return InputSpec(
        channels=channels,
        height=height,
        width=width,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        picture=Picture(method=method, box=(4, 4) if method == "ink" else None),
    )


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def answer(data: bytes, wanted: InputSpec) -> list[Any] | type[Problem]:
    try:
        values: list[Any] = pictures.open_picture(data, LIMIT).to_input(wanted).tolist()
        return values
    except Problem as problem:
        return type(problem)


def by_pillow(data: bytes, wanted: InputSpec, monkeypatch: pytest.MonkeyPatch) -> list[Any] | type[Problem]:
    with monkeypatch.context() as patch:
        patch.setattr(pictures, "plain_png", lambda data: None)
        return answer(data, wanted)


@pytest.mark.parametrize("pixels", [grey(), colour(), grey(1, 1), colour(40, 33)], ids=lambda p: str(p.shape))
@pytest.mark.parametrize("wanted", [spec(1, 6, 5), spec(3, 6, 5), spec(1, 6, 5, "ink"), spec(1, 9, 3)], ids=str)
def test_a_plain_picture_is_read_as_pillow_reads_it(
    pixels: npt.NDArray[Any], wanted: InputSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = png(pixels)
    found = plain_png.plain_png(data)
    assert found is not None
    read = found.pixels()
    assert read is not None
    assert read.tolist() == pixels.tolist()
    assert answer(data, wanted) == by_pillow(data, wanted, monkeypatch)


def special() -> dict[str, bytes]:
    plain = png(grey())
    text = PngImagePlugin.PngInfo()
    text.add_text("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    turned = Image.Exif()
    turned[0x0112] = 6
    return {
        "transparent": png(grey(), transparency=7),
        "alpha": png(np.dstack([colour(), grey()])),
        "16 bits": png(grey().astype(np.uint16) * 257),
        "exif": png(grey(), exif=turned),
        "xmp": png(grey(), pnginfo=text),
        "cut": plain[:-5],
        "no end": plain[:-12],
        "more behind": plain + b"more",
    }


@pytest.mark.parametrize("case", special())
def test_what_is_not_plain_is_left_to_pillow(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = special()[case]
    assert plain_png.plain_png(data) is None
    wanted = spec(1, 6, 5)
    assert answer(data, wanted) == by_pillow(data, wanted, monkeypatch)


def test_a_large_file_is_left_to_pillow() -> None:
    assert plain_png.plain_png(png(grey(160, 160))) is None


@settings(max_examples=3000, deadline=None)
@given(st.data())
def test_damage_is_judged_as_pillow_judges_it(data: st.DataObject) -> None:
    whole = bytearray(png(grey()))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(whole)
    wanted = spec(1, 6, 5)
    with pytest.MonkeyPatch.context() as monkeypatch:
        expected = by_pillow(damaged, wanted, monkeypatch)
    found = answer(damaged, wanted)
    # libspng may refuse what Pillow reads, and then Pillow reads it; what Pillow refuses, it must not let in.
    if isinstance(expected, type):
        assert isinstance(found, type)
    else:
        assert found == expected


def test_what_libspng_does_not_read_is_for_pillow_to_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    header = struct.pack(">IIBBBBB", 5, 6, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0\1\2\3\4\5")  # one row of six
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    found = plain_png.plain_png(data)
    assert found is not None
    assert found.pixels() is None
    assert answer(data, spec(1, 6, 5)) == by_pillow(data, spec(1, 6, 5), monkeypatch)
