"""Arithmetic on grey pictures and masks that NumPy does not bring along."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

Grey = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def label(mask: Mask) -> tuple[npt.NDArray[np.intp], int]:
    """Number the connected parts of a mask, diagonal neighbours included: intp [h, w] of 0..count−1, and the count.

    Only the numbers where the mask is set mean anything. Works on horizontal runs, whose overlaps with the row below
    are joined until nothing changes.
    """
    height, width = mask.shape
    padded = np.zeros((height, width + 2), np.int8)
    padded[:, 1:-1] = mask
    steps = np.diff(padded.ravel(), prepend=np.int8(0))
    starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    first = np.searchsorted(ends, starts + width + 2, side="left")
    last = np.searchsorted(starts, ends + width + 2, side="right")
    overlaps = np.maximum(last - first, 0)
    upper = np.repeat(np.arange(len(starts)), overlaps)
    lower = np.arange(overlaps.sum()) - np.repeat(np.cumsum(overlaps) - overlaps, overlaps) + np.repeat(first, overlaps)
    root = np.arange(len(starts))
    while True:
        least = np.minimum(root[upper], root[lower])
        before = root.copy()
        for end in (upper, lower):
            np.minimum.at(root, before[end], least)
            np.minimum.at(root, end, least)
        root = root[root]
        if np.array_equal(root, before):
            break
    names, run_labels = np.unique(root, return_inverse=True)
    labels = np.zeros(padded.size, np.intp)
    labels[starts] = np.diff(run_labels, prepend=0)
    filled = np.cumsum(labels).reshape(padded.shape)[:, 1:-1]
    return filled, len(names)


def quadratic(pixels: Grey, where: Mask) -> npt.NDArray[np.float64]:
    """A quadratic surface through some of a picture's pixels, by least squares with outliers cut off repeatedly.

    Returns float64 [h, w], the surface over the whole picture.
    """
    height, width = pixels.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    design, values = terms[where], pixels[where]
    residual = np.abs(values - np.median(values))
    # At first a broad cut around the median: lighting may vary along the way, ink that crosses it is far off.
    keep = residual <= max(0.05, 2.5 * float(np.median(residual)))
    surface = np.zeros(terms.shape[-1])
    for _ in range(4):
        kept = design[keep]
        surface = np.linalg.solve(kept.T @ kept + 1e-6 * np.eye(kept.shape[1]), kept.T @ values[keep])
        residual = np.abs(values - design @ surface)
        keep = residual <= max(0.02, 3 * 1.4826 * float(np.median(residual)))
    return np.asarray(terms @ surface)


def border(shape: tuple[int, int]) -> Mask:
    """The pixels along the four sides, a twentieth of the shorter side deep."""
    depth = max(1, min(shape) // 20)
    mask = np.ones(shape, bool)
    mask[depth:-depth, depth:-depth] = False
    return mask


def widest(pixels: Grey, window: int) -> Grey:
    """Maximum over a square window of odd size, the picture continued by its edge."""
    reach = window // 2
    for axis in (0, 1):
        pad = [(reach, reach) if axis == a else (0, 0) for a in (0, 1)]
        view = np.lib.stride_tricks.sliding_window_view(np.pad(pixels, pad, mode="edge"), window, axis=axis)
        pixels = view.max(axis=-1)
    return pixels


def blurred(pixels: Grey) -> Grey:
    """Mean over 3×3 pixels, the picture continued by its edge."""
    padded = np.pad(pixels, 1, mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    means: Grey = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / np.float32(9)
    return means


def resized(pixels: Grey, height: int, width: int, method: Image.Resampling) -> Grey:
    """The picture at another size; antialiased where it shrinks."""
    scaled: Grey = np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize((width, height), method))
    return scaled
