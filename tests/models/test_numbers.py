"""Two-digit numbers: what a picture shows, which digits it is made of, and that the fixed ones do not change."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from models.data import mnist, numbers
from models.data.numbers import CLASSES, CONDITIONS, USUAL, Conditions, compose

PLAIN = Conditions(distance=(18.5, 18.5), fragment_ink=(0.0, 0.0), contrast=(1.0, 1.0), noise=(0.0, 0.0))


@pytest.fixture(scope="module")
def pictures() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return numbers.read("test")


def stripes(digit: int) -> np.ndarray[Any, Any]:
    """A drawing that tells its class by its brightness alone: a block of (digit + 1) / 10."""
    drawing = np.zeros((28, 28), np.float32)
    drawing[8:20, 9:19] = (digit + 1) / 10
    return drawing


def marked() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return np.stack([stripes(digit) for digit in range(10)]), np.arange(10)


# --- The fixed pictures ----------------------------------------------------------------------------------------------


def test_the_test_pictures_are_these_ten_thousand(pictures: tuple[Any, Any]) -> None:
    images, labels = pictures
    assert images.shape == (10_000, 1, 28, 48)
    assert images.dtype == np.float32
    assert labels.dtype == np.int64
    pixels = np.rint(images * 255).astype(np.uint8)
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    assert digest == "97b1c128bc5b985b064bf73f4dc4ae31a425b1421e8d2288f232683824e16dbc"


def test_every_number_is_about_as_frequent_as_any_other(pictures: tuple[Any, Any]) -> None:
    counts = np.bincount(pictures[1], minlength=100)
    assert len(counts) == len(CLASSES) == 100
    # Poisson counts around 100: five standard deviations.
    assert counts.min() > 50
    assert counts.max() < 150


def test_a_png_holds_a_picture_exactly(pictures: tuple[Any, Any]) -> None:
    for image in pictures[0][:20, 0]:
        file = io.BytesIO()
        Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(file, "PNG")
        np.testing.assert_array_equal(np.asarray(Image.open(file), np.float32) / np.float32(255), image)


def test_the_cards_mean_and_deviation_are_those_of_training() -> None:
    images, _ = numbers.read("train")
    assert numbers.INPUT.mean == pytest.approx([images.mean()], abs=0.005)
    assert numbers.INPUT.std == pytest.approx([images.std()], abs=0.005)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(KeyError):
        numbers.read("holiday")


# --- Which digits ----------------------------------------------------------------------------------------------------


def test_splits_share_no_digit() -> None:
    kinds = {split: {d.tobytes() for d in numbers.digits_of(split)[0]} for split in ("train", "validation", "test")}
    assert {split: len(digits) for split, digits in kinds.items()} == {"train": 3500, "validation": 500, "test": 1000}
    assert not kinds["train"] & kinds["validation"]
    assert not kinds["train"] & kinds["test"]
    assert not kinds["validation"] & kinds["test"]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_split_is_composed_of_its_own_digits(split: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = mnist.read

    def spy(name: str) -> tuple[numbers.Pixels, numbers.Labels]:
        asked.append(name)
        return real(name)

    monkeypatch.setattr(mnist, "read", spy)
    numbers.read.__wrapped__(split)
    assert asked == [split]


def test_only_digits_of_the_pictures_own_set_are_rewritten_and_drawn() -> None:
    digits, labels = numbers.digits_of("test")
    known = {digit.tobytes() for digit in digits}
    given: list[bytes] = []

    def rewrite(picked: numbers.Digits) -> numbers.Digits:
        given.extend(digit.tobytes() for digit in picked)
        return np.zeros_like(picked)

    images, _ = compose(digits, labels, 50, np.random.default_rng(1), rewrite, replace(USUAL, noise=(0.0, 0.0)))
    assert set(given) <= known
    assert not images.any()  # nothing but what was rewritten is drawn


# --- What a picture shows --------------------------------------------------------------------------------------------


def test_the_label_is_the_number_that_is_drawn_left_to_right() -> None:
    images, labels = compose(*marked(), 200, np.random.default_rng(3), conditions=PLAIN)
    for image, label in zip(images[:, 0], labels, strict=True):
        # The digits stand apart, so the emptiest column between them parts the picture in two.
        columns = image.max(0)
        inked = np.flatnonzero(columns > 0.05)
        middle = inked[0] + np.argmin(columns[inked[0] : inked[-1] + 1][8:-8]) + 8
        # A block's inside has its own brightness whatever its scale.
        tens, ones = (round(10 * part.max()) - 1 for part in (image[:, :middle], image[:, middle:]))
        assert 10 * tens + ones == label


def test_a_digit_at_its_own_scale_is_moved_and_nothing_else() -> None:
    digits = np.random.default_rng(0).random((3, 28, 28), np.float32)
    y, x = np.full(3, 13.5, np.float32), np.array([13.5, 20.5, 33.5], np.float32)
    placed = numbers._place(digits, y, x, np.ones(3, np.float32))
    for picture, digit, left in zip(placed, digits, (0, 7, 20), strict=True):
        np.testing.assert_allclose(picture[:, left : left + 28], digit, atol=1e-6)
        assert picture.sum() == pytest.approx(digit.sum(), rel=1e-5)


def test_placing_agrees_with_bilinear_sampling_by_torch() -> None:
    generator = np.random.default_rng(5)
    digits = generator.random((6, 28, 28), np.float32)
    y, x = (generator.uniform(low, high, 6).astype(np.float32) for low, high in ((9, 18), (12, 36)))
    scale = generator.uniform(0.75, 1.1, 6).astype(np.float32)
    rows = (np.arange(28)[None] - y[:, None]) / scale[:, None] + 13.5
    columns = (np.arange(48)[None] - x[:, None]) / scale[:, None] + 13.5
    grid = np.stack(np.broadcast_arrays(columns[:, None], rows[:, :, None]), -1) / 13.5 - 1
    sampled = functional.grid_sample(
        torch.from_numpy(digits)[:, None].double(), torch.from_numpy(grid).double(), align_corners=True
    )
    np.testing.assert_allclose(numbers._place(digits, y, x, scale), sampled[:, 0].numpy(), atol=1e-5)


def test_clutter_is_absent_from_some_pictures_and_of_the_ink_that_is_asked_for() -> None:
    digits = np.ones((4, 300, 28, 28), np.float32)
    clutter = numbers._clutter(digits, replace(USUAL, fragment_ink=(0.4, 0.8)), np.random.default_rng(2))
    clean = ~clutter.any(axis=(1, 2))
    assert 0.1 < clean.mean() < 0.35  # none of five numbers of fragments, one in five, and some lie outside
    # The brightest is a fragment drawn as large as it was cut, at close to the most ink.
    assert 0.75 < clutter.max() <= 0.8


@pytest.mark.parametrize("deviation", [0.0, 0.1, 0.3])
def test_noise_has_the_deviation_that_is_asked_for(deviation: float) -> None:
    blank = np.zeros((10, 28, 28), np.float32)
    conditions = replace(PLAIN, noise=(deviation, deviation))
    images, _ = compose(blank, np.arange(10), 200, np.random.default_rng(4), conditions=conditions)
    # What is below black is cut off: half of a normal distribution has the second moment σ²/2.
    assert np.sqrt(2 * (images.astype(np.float64) ** 2).mean()) == pytest.approx(deviation, rel=0.02, abs=1e-9)


def test_contrast_scales_the_ink_alone() -> None:
    bright, _ = compose(*marked(), 50, np.random.default_rng(6), conditions=PLAIN)
    dim, _ = compose(*marked(), 50, np.random.default_rng(6), conditions=replace(PLAIN, contrast=(0.5, 0.5)))
    np.testing.assert_allclose(dim, bright / 2, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize("name", CONDITIONS)
def test_conditions_change_how_hard_pictures_are_and_not_what_they_show(name: str) -> None:
    digits, labels = numbers.digits_of("validation")
    usual, shown = compose(digits, labels, 30, np.random.default_rng(8))
    images, same = compose(digits, labels, 30, np.random.default_rng(8), conditions=CONDITIONS[name])
    np.testing.assert_array_equal(same, shown)
    assert np.array_equal(images, usual) == (CONDITIONS[name] == USUAL)
