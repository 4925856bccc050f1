"""Drawings of two-digit numbers: both digits arrive, as large as the networks of `numbers` know them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from models.bundle import InputSpec, Picture
from models.data import numbers
from service import ink
from service.pictures import open_picture
from tests.images import encode
from tests.service.photographs import Grey, Scene, digits, number, photograph, trimmed

PAGE = Scene(height=240, width=340, digit=90)
HEIGHT, WIDTH = 20, 36  # the box, in pixels of the input
ONE_BOX = numbers.INPUT.model_copy(update={"picture": Picture(method="ink", box=(20, 20))})
# A digit's height, and the distance of the digits' middles, that training pictures have.
KNOWN_HEIGHT, KNOWN_DISTANCE = (15, 22), (12.5, 18.5)


def read(picture: Image.Image, spec: InputSpec = numbers.INPUT) -> Grey:
    values: Grey = open_picture(encode(picture), 10**7).to_input(spec)[0]
    return values


def pairs() -> Iterator[tuple[Grey, Grey]]:
    """Each digit once on the left and once on the right: 03, 14, 25, …, 92."""
    ten = digits()
    return ((ten[first], ten[(first + 3) % 10]) for first in range(10))


def extents(found: Grey) -> list[tuple[int, int, int, int]]:
    """Top, bottom, left and right (exclusive) of what stands between empty columns, from left to right."""
    used = (found > 0.2).any(axis=0)
    edges = np.flatnonzero(np.diff(np.pad(used, 1).astype(int)))
    parts = []
    for left, right in zip(edges[::2], edges[1::2], strict=True):
        rows = np.flatnonzero((found[:, left:right] > 0.2).any(axis=1))
        parts.append((int(rows[0]), int(rows[-1]) + 1, int(left), int(right)))
    return parts


def fitted(left: Grey, right: Grey, gap: float) -> float:
    """The scale at which two inks [h, w] and the gap between them fit the box."""
    by_height, by_width = max(left.shape[0], right.shape[0]), left.shape[1] + gap + right.shape[1]
    return float(min(HEIGHT / by_height, WIDTH / by_width))


@pytest.mark.parametrize(
    "scene",
    [
        pytest.param(Scene(height=240, width=340, digit=90, gradient=0, noise=0), id="a scan"),
        pytest.param(PAGE, id="a photograph"),
        pytest.param(Scene(height=240, width=340, digit=90, gradient=0.8, noise=0.05), id="a strong slope of light"),
        pytest.param(Scene(height=240, width=340, digit=90, ink=0.5), id="a pencil"),
        pytest.param(Scene(height=240, width=340, digit=90, paper=0.15, ink=0.85), id="chalk on a board"),
        pytest.param(Scene(height=240, width=340, digit=90, specks=10), id="specks of dirt"),
        pytest.param(Scene(height=480, width=640, digit=110), id="a small number"),
        pytest.param(Scene(height=190, width=330, digit=200), id="a number that fills the picture"),
        pytest.param(Scene(height=1200, width=1600, digit=400), id="a large photograph"),
    ],
)
def test_both_digits_arrive_as_large_and_as_far_apart_as_they_were_drawn(scene: Scene) -> None:
    for seed, (left, right) in enumerate(pairs()):
        found = extents(read(photograph(number(left, right, gap=4), scene, seed)))
        assert len(found) == 2
        scale = fitted(trimmed(left), trimmed(right), 4)
        for (top, bottom, start, end), digit in zip(found, (left, right), strict=True):
            height, width = trimmed(digit).shape
            assert bottom - top == pytest.approx(height * scale, abs=2)
            assert end - start == pytest.approx(width * scale, abs=2)
        assert found[1][2] - found[0][3] == pytest.approx(4 * scale, abs=2)


def test_digits_in_natural_writing_come_out_at_the_size_that_the_networks_know() -> None:
    for seed, (left, right) in enumerate(pairs()):
        for gap in (2, 4, 6):
            found = read(photograph(number(left, right, gap), PAGE, seed))
            first, second = extents(found)
            assert KNOWN_HEIGHT[0] <= max(first[1] - first[0], second[1] - second[0]) <= KNOWN_HEIGHT[1]
            middles = [(part[2] + part[3]) / 2 for part in (first, second)]
            assert KNOWN_DISTANCE[0] - 3 <= middles[1] - middles[0] <= KNOWN_DISTANCE[1] + 3


def test_digits_far_apart_are_moved_together_before_they_shrink() -> None:
    for seed, (left, right) in enumerate(pairs()):
        scale = fitted(trimmed(left), trimmed(right), 4)
        for gap in (12, 20, 26):
            first, second = extents(read(photograph(number(left, right, gap), PAGE, seed)))
            assert max(first[1] - first[0], second[1] - second[0]) >= HEIGHT * min(1, scale) - 2
            assert second[3] - first[2] <= WIDTH
            assert second[2] - first[3] >= 2


def test_digits_that_fit_keep_their_distance() -> None:
    one = trimmed(digits()[1])
    gap = 34 * one.shape[0] // HEIGHT - 2 * one.shape[1]
    assert gap > one.shape[0] / 3
    first, second = extents(read(photograph(number(digits()[1], digits()[1], gap), PAGE)))
    assert second[2] - first[3] == pytest.approx(gap * HEIGHT / one.shape[0], abs=2)


def test_nothing_is_moved_together_for_a_box_of_one_character() -> None:
    drawing = number(digits()[1], digits()[1], gap=14)
    first, second = extents(read(photograph(drawing, PAGE), ONE_BOX))
    assert second[3] - first[2] == pytest.approx(20, abs=1)
    assert (second[2] - first[3]) / (second[3] - first[2]) == pytest.approx(14 / drawing.shape[1], abs=0.1)


@pytest.mark.parametrize("small", [0, 1])
@pytest.mark.parametrize("gap", [2, 8, 20])
def test_a_slight_digit_beside_a_big_one_is_kept(small: int, gap: int) -> None:
    sizes = (0.6, 1.0) if small == 0 else (1.0, 0.6)
    for seed, other in enumerate((0, 2, 4, 8)):
        shown = [digits()[other], digits()[other]]
        shown[small] = digits()[1]
        drawn = [size * trimmed(digit).shape[0] for digit, size in zip(shown, sizes, strict=True)]
        found = extents(read(photograph(number(shown[0], shown[1], gap, sizes), PAGE, seed)))
        assert len(found) == 2
        heights = [bottom - top for top, bottom, _, _ in found]
        assert heights[0] / heights[1] == pytest.approx(drawn[0] / drawn[1], rel=0.15)


def test_a_digit_written_lower_than_the_other_stays_lower() -> None:
    for seed, (left, right) in enumerate(pairs()):
        first, second = extents(read(photograph(number(left, right, 4, lower=6), PAGE, seed)))
        scale = HEIGHT / (second[1] - first[0])
        assert ((second[0] + second[1]) - (first[0] + first[1])) / 2 * scale >= 2


def test_what_lies_several_digits_away_is_no_part_of_the_number() -> None:
    page = np.array(photograph(number(digits()[4], digits()[7]), Scene(height=300, width=900, digit=90, gradient=0)))
    clean = read(Image.fromarray(page))
    for left in (40, 830):
        page[120:180, left : left + 12] = 30
    assert read(Image.fromarray(page)) == pytest.approx(clean, abs=0.02)


@pytest.mark.parametrize(("left", "right"), [(1, 1), (1, 7), (7, 1)])
@pytest.mark.parametrize("gap", [2, 5, 9])
def test_a_narrow_pair_is_as_high_as_the_box_and_not_stretched(left: int, right: int, gap: int) -> None:
    drawing = number(digits()[left], digits()[right], gap)
    found = read(photograph(drawing, PAGE))
    rows, columns = (np.flatnonzero((found > 0.2).any(axis=axis)) for axis in (1, 0))
    assert rows[-1] - rows[0] + 1 == pytest.approx(HEIGHT, abs=1)
    assert columns[-1] - columns[0] + 1 == pytest.approx(drawing.shape[1] * HEIGHT / drawing.shape[0], abs=2)


def test_the_numbers_centre_of_mass_is_in_the_middle() -> None:
    for seed, (left, right) in enumerate(pairs()):
        for gap in (3, 14):
            found = read(photograph(number(left, right, gap), PAGE, seed))
            assert found.max() == 1.0
            assert ndimage.center_of_mass(found) == pytest.approx((14, 24), abs=0.6)


def test_a_thin_pen_is_drawn_as_wide_as_in_digits_of_that_height() -> None:
    page = np.full((400, 600), 230, np.uint8)
    for left in (200, 380):
        page[100:300, left : left + 3] = 30
    found = read(Image.fromarray(page))
    # MNIST's strokes are 1.8 to 4.1 pixels wide where digits are 20 high; twice that in a box of 36 would be no pen.
    assert found[14].sum() / 2 == pytest.approx(2.3, abs=0.5)


@pytest.mark.parametrize("kind", ["as in the test", "noise 0.4", "noise 0.4, contrast 0.3", "full contrast"])
def test_a_picture_of_the_data_set_keeps_its_pixels_under_any_noise(kind: str) -> None:
    generator = np.random.default_rng(4)
    pictures, _ = numbers.compose(*numbers.digits_of("test"), 100, generator, conditions=numbers.CONDITIONS[kind])
    for picture in pictures[:, 0]:
        png = np.rint(picture * 255).astype(np.uint8)
        assert np.array_equal(read(Image.fromarray(png)), picture)
        np.testing.assert_allclose(read(Image.fromarray(255 - png)), picture, atol=1e-6)
    assert all(np.array_equal(ink.same_size(picture), picture) for picture in pictures[:, 0])
