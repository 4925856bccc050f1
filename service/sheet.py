"""A sheet of paper, or a board, that lies within a picture instead of filling it."""

from __future__ import annotations

import numpy as np

from service.regions import Grey, Mask, border, label, widest

# Of the picture: what is smaller is rather part of a drawing.
_LEAST_AREA = 0.25
# Of the border: a sheet within the picture leaves it free, a shadow that falls into the picture does not.
_MOST_BORDER = 0.1
# Of the area within its outline: drawings are mostly gaps.
_LEAST_SOLID = 0.9
_LEAST_CONTRAST = 0.12
# Of the picture's longer side, cut off along the outline, where the sheet's edge and its shadow are.
_MARGIN = 0.025


def find_sheet(coarse: Grey) -> Mask | None:
    """Where a sheet is, its outermost strip left out; None where the picture has none within itself."""
    ring = border(coarse.shape)
    bright = coarse > _otsu(coarse)
    # The sheet, light or dark, is on the side of the threshold that has less of the border.
    mask = ~bright if np.count_nonzero(bright[ring]) * 2 > np.count_nonzero(ring) else bright
    labels, count = label(mask)
    if count == 0:
        return None
    largest = mask & (labels == np.bincount(labels[mask]).argmax())
    within = _filled(largest)
    if (
        np.count_nonzero(within) < _LEAST_AREA * within.size
        or np.count_nonzero(largest) < _LEAST_SOLID * np.count_nonzero(within)
        or np.count_nonzero(largest[ring]) > _MOST_BORDER * np.count_nonzero(ring)
        or abs(float(coarse[largest].mean()) - float(np.median(coarse[ring]))) < _LEAST_CONTRAST
    ):
        return None
    margin = 2 * max(1, round(_MARGIN * max(coarse.shape))) + 1
    outside = widest(np.pad((~within).astype(np.float32), 1, constant_values=1), margin)[1:-1, 1:-1]
    inner: Mask = outside == 0
    return inner if inner.any() else None


def _filled(mask: Mask) -> Mask:
    """With its holes and bays: what lies between parts of the mask along its row or along its column.

    A sheet is convex, so that only writing is filled in; a drawing gains much.
    """
    filled = np.zeros_like(mask)
    for axis in (0, 1):
        before = np.maximum.accumulate(mask, axis)
        after = np.flip(np.maximum.accumulate(np.flip(mask, axis), axis), axis)
        filled |= before & after
    return filled


def _otsu(pixels: Grey) -> float:
    """The threshold that separates two classes best (Otsu 1979), for values of 0..1."""
    counts, edges = np.histogram(pixels, bins=64, range=(0, 1))
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[1:][np.nan_to_num(between).argmax()])
