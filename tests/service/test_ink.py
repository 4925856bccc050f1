from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from models.bundle import FloatArray, InputSpec, Picture
from service.pictures import open_picture
from service.regions import label
from tests.images import encode
from tests.service.photographs import Grey, Scene, digits, photograph

MNIST = InputSpec(channels=1, height=28, width=28, mean=(0.0,), std=(1.0,), picture=Picture(method="ink", box=(20, 20)))


def read(picture: Image.Image, kind: str = "PNG", spec: InputSpec = MNIST, **options: object) -> Grey:
    values: FloatArray = open_picture(encode(picture, kind, **options), 10**7).to_input(spec)
    grey: Grey = values[0]
    return grey


def likeness(first: Grey, second: Grey) -> float:
    """Correlation at the best shift by a pixel: where the centre falls between two pixels, either is right."""
    shifts = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return max(float(np.corrcoef(np.roll(first, s, (0, 1)).ravel(), second.ravel())[0, 1]) for s in shifts)


def likenesses(scene: Scene, **options: object) -> list[float]:
    return [
        likeness(read(photograph(digit, scene, seed), **options), digit)  # type: ignore[arg-type]
        for seed, digit in enumerate(digits())
    ]


# The pen of the photograph saturates what is grey in MNIST, so that not even a perfect one reaches 1.
@pytest.mark.parametrize(
    ("scene", "mean", "least"),
    [
        pytest.param(Scene(gradient=0, noise=0), 0.95, 0.8, id="a scan"),
        pytest.param(Scene(), 0.95, 0.8, id="a photograph"),
        pytest.param(Scene(gradient=0.8), 0.95, 0.8, id="a strong slope of light"),
        pytest.param(Scene(noise=0.1), 0.94, 0.75, id="much noise"),
        pytest.param(Scene(shadow=0.4), 0.93, 0.75, id="the shadow of a hand"),
        pytest.param(Scene(ink=0.55), 0.95, 0.75, id="a pencil"),
        pytest.param(Scene(paper=0.15, ink=0.85), 0.95, 0.75, id="chalk on a board"),
        pytest.param(Scene(paper=0.15, ink=0.85, gradient=0.8), 0.94, 0.75, id="chalk under a slope of light"),
        pytest.param(Scene(specks=15), 0.94, 0.75, id="specks of dirt"),
        pytest.param(Scene(digit=60), 0.85, 0.6, id="a small digit"),
        pytest.param(Scene(height=190, width=185), 0.95, 0.75, id="a digit that fills the picture"),
        pytest.param(Scene(height=1000, width=800, digit=350), 0.95, 0.75, id="a large photograph"),
        pytest.param(Scene(height=64, width=56, digit=40), 0.85, 0.45, id="a small picture"),
        pytest.param(Scene(table=0.2), 0.72, 0.55, id="a sheet askew on a dark table"),
    ],
)
def test_a_photographed_digit_comes_out_as_it_was_drawn(scene: Scene, mean: float, least: float) -> None:
    found = likenesses(scene)
    assert np.mean(found) > mean
    assert min(found) > least


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "P"])
def test_the_mode_of_the_file_does_not_matter(mode: str) -> None:
    picture = photograph(digits()[5], Scene())
    grey = read(picture)
    converted = picture.convert("RGB").quantize(64) if mode == "P" else picture.convert("RGB").convert(mode)
    assert likeness(read(converted, "JPEG" if mode == "CMYK" else "PNG"), grey) > 0.97


def test_a_transparent_drawing_is_laid_on_the_background() -> None:
    drawing = np.zeros((280, 280, 4), np.uint8)
    drawing[..., 3] = np.kron(digits()[3] * 255, np.ones((10, 10)))
    assert likeness(read(Image.fromarray(drawing)), digits()[3]) > 0.9


def test_a_phone_held_upright_gives_an_upright_digit() -> None:
    upright = photograph(digits()[7], Scene())
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera's top was to the right: the stored picture is to be turned clockwise
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    assert likeness(read(turned, "JPEG", exif=exif), read(upright)) > 0.97
    assert likeness(read(turned, "JPEG"), read(upright)) < 0.8


def test_a_picture_of_the_inputs_size_keeps_its_pixels() -> None:
    pixels = (digits()[2] * 255).astype(np.uint8)
    expected = pixels.astype(np.float32) / np.float32(255)
    assert np.array_equal(read(Image.fromarray(pixels)), expected)
    assert read(Image.fromarray(255 - pixels)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("value", [0, 40, 128, 255])
@pytest.mark.parametrize("size", [(300, 200), (28, 28), (1, 1), (2, 900), (3, 3), (900, 1)])
def test_a_blank_picture_gives_a_blank_input(value: int, size: tuple[int, int]) -> None:
    blank = read(Image.new("L", size, value))
    if size == (28, 28):  # taken as it is: grey paper is not made black
        assert blank == pytest.approx(min(value, 255 - value) / 255)
    else:
        assert not blank.any()


@pytest.mark.parametrize("seed", range(4))
def test_a_blank_page_under_uneven_light_gives_a_blank_input(seed: int) -> None:
    empty = np.zeros((28, 28), np.float32)
    assert not read(photograph(empty, Scene(gradient=0.7, noise=0.05), seed)).any()
    assert not read(photograph(empty, Scene(gradient=0.7, noise=0.05), seed), "JPEG", quality=60).any()


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_any_picture_at_all_gives_values_in_range(height: int, width: int, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)
    values = read(Image.fromarray(noise))
    assert values.shape == (28, 28)
    assert 0 <= values.min() <= values.max() <= 1


def test_the_ink_fits_its_box_and_its_centre_of_mass_is_in_the_middle() -> None:
    for seed, digit in enumerate(digits()):
        found = read(photograph(digit, Scene(), seed))
        rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
        extent = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
        assert 17 <= extent <= 20  # a soft edge may round to nothing
        assert found.max() == 1.0
        # MNIST's own convention: the mean over its digits is 14.0 in both directions, counting pixels from 0.
        assert ndimage.center_of_mass(found) == pytest.approx((14, 14), abs=0.6)


def test_a_wide_box_takes_a_wide_drawing() -> None:
    spec = MNIST.model_copy(update={"width": 56, "picture": Picture(method="ink", box=(20, 48))})
    page = photograph(np.zeros((28, 28), np.float32), Scene(height=300, width=500))
    pixels = np.array(page)
    for left, digit in ((120, digits()[4]), (260, digits()[2])):
        window = pixels[90:202, left : left + 112]
        window[np.kron(digit, np.ones((4, 4))) > 0.5] = 20
    found = read(Image.fromarray(pixels), spec=spec)
    parts, count = ndimage.label(found > 0.3, np.ones((3, 3)))
    assert count == 2
    centres = sorted(x for _, x in ndimage.center_of_mass(found, parts, [1, 2]))
    assert centres[0] < 24
    assert centres[1] > 32


def test_a_faint_smudge_beside_the_drawing_is_left_out() -> None:
    page = np.full((400, 400), 0.85)
    window = page[140:252, 120:232]
    window[np.kron(digits()[4], np.ones((4, 4))) > 0.5] = 0.15
    clean = read(Image.fromarray((page * 255).astype(np.uint8)))
    page[150:240, 255:262] = 0.47  # darker than half way to the ink would be ink
    assert np.array_equal(read(Image.fromarray((page * 255).astype(np.uint8))), clean)


def test_a_thin_pen_is_drawn_as_wide_as_handwriting_of_that_size() -> None:
    line = np.full((600, 600), 230, np.uint8)
    line[100:500, 299:303] = 30  # four pixels of 400 would be a fifth of a pixel of 20
    found = read(Image.fromarray(line))
    assert found[14].sum() == pytest.approx(2.3, abs=0.5)


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.05, 0.95), st.integers(0, 2**32 - 1))
def test_parts_are_numbered_as_scipy_numbers_them(height: int, width: int, share: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    labels, count = label(mask)
    expected, expected_count = ndimage.label(mask, np.ones((3, 3)))
    assert count == expected_count
    # The same parts, whatever their numbers.
    pairs = set(zip(labels[mask].tolist(), expected[mask].tolist(), strict=True))
    assert len(pairs) == count


def test_parts_that_wind_into_each_other_stay_apart() -> None:
    y, x = np.mgrid[-60:61, -60:61]
    radius, angle = np.hypot(y, x), np.arctan2(y, x)
    arms = np.floor((radius / 6 + angle / np.pi) % 2).astype(int) == 0
    mask = arms & (radius > 8)
    expected, expected_count = ndimage.label(mask, np.ones((3, 3)))
    labels, count = label(mask)
    assert count == expected_count
    assert len(set(zip(labels[mask].tolist(), expected[mask].tolist(), strict=True))) == count
