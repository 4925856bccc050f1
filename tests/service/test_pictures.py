from __future__ import annotations

import io
import struct

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from models.bundle import FloatArray, InputSpec, Picture
from service.pictures import FORMATS, open_picture, to_png
from service.problems import AnimatedPicture, Problem, TooManyPixels, UnreadablePicture
from tests.images import encode, png_header

MANY = 10**6
GREY = InputSpec(channels=1, height=4, width=4, mean=(0.0,), std=(1.0,), picture=Picture())
COLOUR = InputSpec(channels=3, height=4, width=4, mean=(0.0,) * 3, std=(1.0,) * 3, picture=Picture())
# Four quarters: black, white / dark grey, light grey.
QUARTERS = np.array([[0, 255], [64, 192]], np.uint8).repeat(2, 0).repeat(2, 1)


def read(data: bytes, spec: InputSpec = GREY) -> FloatArray:
    return open_picture(data, MANY).to_input(spec)


def large(picture: npt.NDArray[np.uint8], times: int = 16) -> Image.Image:
    return Image.fromarray(picture.repeat(times, 0).repeat(times, 1))


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_pixels_it_holds(kind: str) -> None:
    # Large quarters, so that JPEG's and WebP's losses stay along the edges.
    data = encode(large(QUARTERS).convert("RGB"), kind)
    corners = read(data)[0, ::3, ::3]
    assert corners == pytest.approx(QUARTERS[::3, ::3] / 255, abs=0.03)


def test_colours_out_of_a_palette_that_is_missing_are_unreadable() -> None:
    whole = encode(Image.fromarray(QUARTERS).convert("P"))
    at = whole.index(b"PLTE")
    (length,) = struct.unpack(">I", whole[at - 4 : at])
    assert read(whole).shape == (1, 4, 4)
    with pytest.raises(UnreadablePicture):
        read(whole[: at - 4] + whole[at + 8 + length :])


def test_a_picture_of_the_inputs_size_is_taken_exactly() -> None:
    assert read(encode(QUARTERS)).tolist() == [(QUARTERS.astype(np.float32) / np.float32(255)).tolist()]


def test_pictures_are_0_to_1_whatever_range_a_callers_own_numbers_may_have() -> None:
    spec = GREY.model_copy(update={"value_range": (-1.0, 3.0)})
    values = read(encode(QUARTERS), spec)
    assert values[0, 0].tolist() == [0.0, 0.0, 1.0, 1.0]
    assert values.dtype == np.float32
    assert values.shape == (1, 4, 4)


def test_another_size_is_scaled_with_the_mean_of_what_falls_together() -> None:
    checkers = np.indices((16, 16)).sum(0) % 2 * 255
    assert read(encode(checkers.astype(np.uint8))) == pytest.approx(0.5, abs=0.01)


def test_colours_keep_their_channels_and_become_grey_by_their_luma() -> None:
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    assert read(encode(red), COLOUR)[:, 0, 0].tolist() == [1.0, 0.0, 0.0]
    assert read(encode(red))[0, 0, 0] == pytest.approx(0.299, abs=0.002)


def test_grey_becomes_colour_by_repetition() -> None:
    values = read(encode(QUARTERS), COLOUR)
    assert np.array_equal(values[0], values[1])
    assert np.array_equal(values[0], values[2])


def test_16_bit_grey_is_scaled_and_not_cut_off() -> None:
    # Lower bytes of their own, so that they cannot be mistaken for the value.
    deep = QUARTERS.astype(np.uint16) * 257 + np.where(QUARTERS % 255, 99, 0).astype(np.uint16)
    assert Image.open(io.BytesIO(encode(Image.fromarray(deep)))).mode == "I;16"
    assert np.array_equal(read(encode(Image.fromarray(deep))), read(encode(QUARTERS)))


def test_cmyk_is_converted() -> None:
    data = encode(large(QUARTERS).convert("RGB").convert("CMYK"), "JPEG", quality=95)
    assert read(data)[0, ::3, ::3] == pytest.approx(QUARTERS[::3, ::3] / 255, abs=0.03)


def test_a_palette_gives_its_colours_and_one_bit_black_and_white() -> None:
    palette = Image.fromarray(QUARTERS).convert("RGB").quantize(4)
    assert palette.mode == "P"
    assert read(encode(palette)) == pytest.approx(QUARTERS[None] / 255, abs=0.01)
    one_bit = Image.fromarray(QUARTERS > 100)
    assert one_bit.mode == "1"
    assert read(encode(one_bit))[0].tolist() == (QUARTERS > 100).astype(float).tolist()


@pytest.mark.parametrize(("background", "value"), [("white", 1.0), ("black", 0.0)])
def test_transparency_is_laid_on_the_manifests_background(background: str, value: float) -> None:
    spec = GREY.model_copy(update={"picture": Picture(background=background)})
    clear = np.zeros((4, 4, 4), np.uint8) + np.array([90, 90, 90, 0], np.uint8)
    clear[0, 0] = (90, 90, 90, 255)
    half = np.zeros((4, 4, 4), np.uint8) + np.array([128, 128, 128, 128], np.uint8)
    assert read(encode(clear), spec)[0, 1, 1] == value
    assert read(encode(clear), spec)[0, 0, 0] == pytest.approx(90 / 255, abs=0.002)
    assert read(encode(half), spec)[0, 0, 0] == pytest.approx((128 / 255 + value) / 2, abs=0.01)


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "RGB"])
def test_one_transparent_colour_is_transparency_too(mode: str) -> None:
    spec = GREY.model_copy(update={"picture": Picture(background="white")})
    if mode == "I;16":
        picture, transparent = Image.fromarray(QUARTERS.astype(np.uint16) * 257), 64 * 257
    else:
        picture, transparent = Image.fromarray(QUARTERS).convert(mode), 64
    data = encode(picture, transparency=(64, 64, 64) if mode == "RGB" else transparent)
    assert read(data, spec)[0, ::3, ::3] == pytest.approx(np.array([[0, 1], [1, 192 / 255]]), abs=0.002)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_honoured(orientation: int) -> None:
    # What a camera that was held so writes: each turn undone by hand, from the EXIF standard's own table.
    stored = {
        1: QUARTERS,
        2: np.fliplr(QUARTERS),
        3: np.rot90(QUARTERS, 2),
        4: np.flipud(QUARTERS),
        5: QUARTERS.T,
        6: np.rot90(QUARTERS, 1),
        7: np.rot90(QUARTERS, 2).T,
        8: np.rot90(QUARTERS, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind in ("PNG", "JPEG", "WEBP"):
        data = encode(large(stored).convert("RGB"), kind, exif=exif)
        assert read(data)[0, ::3, ::3] == pytest.approx(QUARTERS[::3, ::3] / 255, abs=0.03), kind


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # Pillow's, to whoever watches the server's stderr
def test_broken_exif_does_not_lose_the_picture() -> None:
    data = encode(large(QUARTERS), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff\x00")
    assert read(data)[0, 0, 0] == pytest.approx(0, abs=0.03)


def test_a_large_photograph_is_decoded_at_a_fraction_of_its_size() -> None:
    photograph = encode(large(QUARTERS, 256), "JPEG")
    picture = open_picture(photograph, 2 * MANY)
    assert picture.pixels == 1024**2
    assert picture.to_input(GREY)[0, ::3, ::3] == pytest.approx(QUARTERS[::3, ::3] / 255, abs=0.03)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_an_animation_is_refused_and_a_single_frame_is_not(kind: str) -> None:
    frames = [Image.fromarray(QUARTERS).convert("RGB"), Image.fromarray(255 - QUARTERS).convert("RGB")]
    with pytest.raises(AnimatedPicture):
        read(encode(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert read(encode(frames[0], kind)).shape == (1, 4, 4)


def test_of_a_phones_jpeg_with_several_pictures_the_first_counts() -> None:
    first, second = large(QUARTERS).convert("RGB"), large(255 - QUARTERS).convert("RGB")
    data = encode(first, "MPO", save_all=True, append_images=[second])
    assert read(data)[0, ::3, ::3] == pytest.approx(QUARTERS[::3, ::3] / 255, abs=0.03)


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"seven", b"<svg/>", b"%PDF-1.7", bytes(1000), encode(QUARTERS, "TIFF"), encode(QUARTERS, "PPM")],
)
def test_what_is_no_picture_of_a_kind_read_here_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadablePicture, match="PNG, JPEG"):
        open_picture(data, MANY)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_picture_cut_short_anywhere_is_refused(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3)).astype(np.uint8)
    data = encode(noise, kind)
    for length in range(1, len(data) * 9 // 10, max(1, len(data) // 40)):
        with pytest.raises(UnreadablePicture):
            read(data[:length])


@pytest.mark.parametrize("kind", FORMATS)
def test_flipped_bits_give_a_picture_or_a_problem_and_nothing_else(kind: str) -> None:
    generator = np.random.default_rng(1)
    original = encode(generator.integers(0, 256, (24, 24, 3)).astype(np.uint8), kind)
    for _ in range(150):
        data = bytearray(original)
        for position in generator.integers(0, min(len(data), 200), 3):
            data[position] ^= 1 << int(generator.integers(8))
        try:
            values = read(bytes(data))
        except Problem as problem:
            assert 400 <= problem.status < 500  # noqa: PT017  # either outcome is right
        else:
            assert values.shape == (1, 4, 4)


@pytest.mark.parametrize(("width", "height"), [(30_000, 30_000), (9_000, 9_000), (1001, 1000), (2**31 - 1, 1)])
def test_too_many_pixels_are_refused_by_the_header_alone(width: int, height: int) -> None:
    data = png_header(width, height)
    assert len(data) < 200
    with pytest.raises(TooManyPixels):
        open_picture(data, MANY)


def test_the_input_as_the_network_sees_it_is_a_png_of_its_pixels() -> None:
    for spec in (GREY, COLOUR, GREY.model_copy(update={"value_range": (-1.0, 3.0)})):
        values = read(encode(QUARTERS), spec)
        assert np.array_equal(read(to_png(values, spec), spec), values)


def test_a_small_picture_needs_no_thread_and_a_photograph_does() -> None:
    ink = GREY.model_copy(update={"picture": Picture(method="ink", box=(3, 3))})
    small, photograph = encode(QUARTERS), encode(large(QUARTERS, 64))
    assert open_picture(small, MANY).is_quick(GREY)
    assert open_picture(small, MANY).is_quick(ink)
    assert not open_picture(photograph, MANY).is_quick(GREY)
    assert not open_picture(encode(large(QUARTERS)), MANY).is_quick(ink)
