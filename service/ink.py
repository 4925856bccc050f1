"""From a photograph or scan of a drawing to the drawing alone: light ink on black, cropped, scaled and centred.

The steps, on a grey copy whose longest side is at most `WORKING_SIDE`; lighting and paper are judged on a coarser one:

1. A sheet of paper that lies within the picture hides what is around it (`service.sheet`).
2. The lighting is a quadratic surface through the picture's border, robustly fitted.
3. `_evidence`: ink is darker or lighter than that; the heavier side is the ink, and light ink is turned into dark.
4. `_paper`: the lighting is divided out; what still varies over more than a third of the picture, such as a shadow with
   a sharp edge, goes with a grey-scale closing, which keeps strokes. What is darker than the paper by how much, is ink.
5. `_find`: a threshold between the noise (measured) and the darkest pixels; connected parts; specks, far-off and faint
   parts and things that lead out of the picture are dropped. Nothing left is a blank picture.
6. `_place`: characters too far apart for a wide box are moved together, strokes thinner than handwriting of that size
   are widened, the drawing is scaled to fit the box, its centre of mass put in the middle.

A box wider than high is one for several characters side by side, each as high as the box.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from service.regions import Grey, Mask, blurred, border, label, quadratic, resized, widest
from service.sheet import find_sheet

WORKING_SIDE = 512
_COARSE_SIDE = 128
# Least contrast with the paper that counts as ink, as a share of the paper's brightness.
_LEAST_CONTRAST = 0.1
_DARKEST = 0.02
# Noise above which strokes have frayed edges and holes, likewise.
_GRAINY = 0.04
# Of the box's shorter side, a character's height, for strokes after scaling: MNIST's are 1.8 to 4.1 pixels wide in a
# box of 20 (median 2.9).
_THIN, _STROKE = 0.09, 0.115
# Of the drawing's height, left between characters that are moved together.
_GAP = 0.2


def same_size(grey: Grey) -> Grey:
    """A picture that already has the input's size: its own pixels, inverted where the border is light."""
    edge = grey[border(grey.shape)]
    return np.float32(1) - grey if np.count_nonzero(edge > 0.5) * 2 > edge.size else grey


def redraw(grey: Image.Image, height: int, width: int, box: tuple[int, int]) -> Grey:
    """The drawing in a grey picture (mode L, any size), as float32 [height, width] in 0..1 with ink near 1.

    The ink is scaled to fit ``box`` (height, width) with its aspect kept and its centre of mass in the middle. Only the
    gaps between characters too far apart for a wide box are narrowed first. A picture without ink gives zeros.
    """
    scale = min(1.0, WORKING_SIDE / max(grey.size))
    if scale < 1:
        size = (max(1, round(grey.width * scale)), max(1, round(grey.height * scale)))
        grey = grey.resize(size, Image.Resampling.BOX, reducing_gap=2.0)
    pixels = np.asarray(grey, dtype=np.float32) / np.float32(255)
    drawing = _draw(pixels, max(1.0, box[1] / box[0]))
    return np.zeros((height, width), np.float32) if drawing is None else _place(drawing, height, width, box)


def _draw(pixels: Grey, spread: float) -> Grey | None:
    """The ink of a grey picture, cropped to its extent; None where there is none. ``spread``: see `_without_specks`."""
    height, width = pixels.shape
    if min(height, width) < 3:
        return None
    shrink = min(1.0, max(_COARSE_SIDE / max(height, width), 3 / min(height, width)))
    coarse = resized(pixels, round(height * shrink), round(width * shrink), Image.Resampling.BOX)
    sheet = find_sheet(coarse)
    if sheet is not None:
        surroundings = np.clip(quadratic(coarse, sheet), 0, 1).astype(np.float32)
        visible = resized(sheet.astype(np.float32), height, width, Image.Resampling.BILINEAR) > 0.99
        beyond = resized(surroundings, height, width, Image.Resampling.BILINEAR)
        drawn = _on_paper(np.where(visible, pixels, beyond), np.where(sheet, coarse, surroundings), spread)
        if drawn is not None:
            return drawn
    return _on_paper(pixels, coarse, spread)


def _on_paper(pixels: Grey, coarse: Grey, spread: float) -> Grey | None:
    """The same where paper fills the picture; ``coarse`` is a smaller copy."""
    surface = quadratic(coarse, border(coarse.shape))
    lighting = np.clip(surface, _DARKEST, 1 - _DARKEST).astype(np.float32)
    if _evidence(coarse, lighting) < _evidence(1 - coarse, 1 - lighting):
        pixels, coarse, lighting = 1 - pixels, 1 - coarse, 1 - lighting
    paper = resized(_paper(coarse, lighting), pixels.shape[0], pixels.shape[1], Image.Resampling.BILINEAR)
    return _find(1 - pixels / paper, spread)


def _paper(coarse: Grey, lighting: Grey) -> Grey:
    """Brightness of the paper where ink is darker than it.

    The lighting is divided out first, since a closing lifts the lower end of a slope.
    """
    window = max(coarse.shape) // 3 | 1
    closed = -widest(-widest(coarse / lighting, window), window)
    paper: Grey = np.maximum(closed * lighting, np.float32(_DARKEST))
    return paper


def _evidence(coarse: Grey, lighting: Grey) -> float:
    """How much looks like ink darker than its paper: what is darker than its surroundings, and than the border's paper.

    The first alone would take the gaps between light strokes for ink, the second a shadow.
    """
    strength = 1 - coarse / _paper(coarse, lighting)
    strength -= np.float32(np.median(strength))
    # On dark paper noise has a large share of the brightness: hardly any of it may count.
    noise = 1.4826 * float(np.median(np.abs(strength)))
    darker = coarse < lighting - np.maximum(0.04 * lighting, 0.02)
    strength[(strength < max(5 * noise, 0.04)) | ~darker] = 0
    return float((strength**2).sum())


def _find(strength: Grey, spread: float) -> Grey | None:
    """The ink in a map of strengths; None where there is none."""
    # The closing follows the noise's upper side, so that paper is a little above 0; a quarter of the pixels tells.
    strength = strength - np.float32(np.median(strength[::2, ::2]))
    noise = _noise(strength)
    if noise > _GRAINY and min(strength.shape) > 100:
        strength = blurred(strength)
        noise = _noise(strength)
    count = min(strength.size - 1, max(4, round(strength.size * 1e-4)))
    peak = float(np.partition(strength, -count, axis=None)[-count])
    if peak < max(_LEAST_CONTRAST, 6 * noise):
        return None
    threshold = max(0.45 * peak, min(5 * noise, 0.7 * peak))
    mask = _without_specks(strength > threshold, strength, spread)
    if mask is None:
        return None
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    # One pixel more on each side, for the ink's soft edge.
    top, left = max(0, rows[0] - 1), max(0, columns[0] - 1)
    window = np.s_[top : rows[-1] + 2, left : columns[-1] + 2]
    solid = float(np.median(strength[mask]))
    low = 0.5 * threshold
    soft: Grey = np.clip((strength[window] - low) / max(solid - low, 1e-6), 0, 1).astype(np.float32)
    soft[widest(mask[window].astype(np.float32), 3) == 0] = 0
    return soft


def _noise(strength: Grey) -> float:
    """Standard deviation on the paper, by the median, which ink does not move much."""
    return 1.4826 * float(np.median(np.abs(strength[::2, ::2])))


def _without_specks(mask: Mask, strength: Grey, spread: float) -> Mask | None:
    """The parts of a mask that make up one drawing: the largest, and what is not tiny, far off or faint beside it.

    Far off is what lies further away than the largest part is long; to its sides, ``spread`` times that.
    """
    labels, count = label(mask)
    if count == 0:
        return None
    height, width = mask.shape
    area = np.bincount(labels[mask], minlength=count)
    y, x = np.nonzero(mask)
    part = labels[mask]
    mean = np.bincount(part, weights=strength[mask], minlength=count) / area
    top, left = np.full(count, height), np.full(count, width)
    bottom, right = np.zeros(count, int), np.zeros(count, int)
    np.minimum.at(top, part, y)
    np.minimum.at(left, part, x)
    np.maximum.at(bottom, part, y)
    np.maximum.at(right, part, x)
    inside = (top > 0) & (left > 0) & (bottom < height - 1) & (right < width - 1)
    # The sheet's edge, a shadow or a finger leads out of the picture; a drawing seldom does.
    candidates = np.where(inside, area, 0)
    main = int(candidates.argmax()) if candidates.max() >= 0.2 * area.max() else int(area.argmax())
    if area[main] < max(4, 2e-5 * mask.size):
        return None
    reach = max(bottom[main] - top[main], right[main] - left[main]) + 1
    gap_y = np.maximum(np.maximum(top - bottom[main], top[main] - bottom), 0)
    gap_x = np.maximum(np.maximum(left - right[main], left[main] - right), 0)
    keep = (area >= 0.04 * area[main]) & (mean >= 0.6 * mean[main]) & (gap_y <= reach) & (gap_x <= spread * reach)
    keep &= inside | ~inside[main]
    chosen: Mask = mask & np.append(keep, False)[np.where(mask, labels, count)]
    return chosen


def _place(ink: Grey, height: int, width: int, box: tuple[int, int]) -> Grey:
    ink = _closed_up(ink, box)
    scale = min(box[0] / ink.shape[0], box[1] / ink.shape[1])
    stroke = _stroke_width(ink) * scale
    side = min(box)
    if stroke < _THIN * side:
        reach = round((_STROKE * side - stroke) / scale / 2)
        ink = widest(np.pad(ink, reach), 2 * reach + 1)
        scale = min(box[0] / ink.shape[0], box[1] / ink.shape[1])
    size = [max(1, min(limit, round(n * scale))) for n, limit in zip(ink.shape, box, strict=True)]
    small = np.clip(resized(ink, size[0], size[1], Image.Resampling.HAMMING), 0, 1)
    drawn = small[small > 0.1]
    if drawn.size:
        small = np.minimum(small / max(float(np.quantile(drawn, 0.9)), 0.25), np.float32(1))
    canvas = np.zeros((height, width), np.float32)
    total = float(small.sum())
    if total == 0:
        return canvas
    offset = []
    for axis, extent in enumerate((height, width)):
        centre = float((small.sum(axis=1 - axis) * (np.arange(size[axis]) + 0.5)).sum()) / total
        offset.append(min(max(round(extent / 2 + 0.5 - centre), 0), extent - size[axis]))
    canvas[offset[0] : offset[0] + size[0], offset[1] : offset[1] + size[1]] = small
    return canvas


def _closed_up(ink: Grey, box: tuple[int, int]) -> Grey:
    """Characters too far apart for a wide box moved together, so that they need not shrink as much to fit."""
    height, width = ink.shape
    excess = width - round(height * box[1] / box[0])
    if box[1] <= box[0] or excess <= 0:
        return ink
    empty = np.flatnonzero(~ink.any(axis=0))
    gaps = np.split(empty, np.flatnonzero(np.diff(empty) > 1) + 1)
    spare = [gap[round(_GAP * height) :] for gap in gaps if len(gap) > round(_GAP * height)]
    total = sum(map(len, spare))
    if not total:
        return ink
    share = min(1.0, excess / total)
    removed = np.concatenate([gap[: round(share * len(gap))] for gap in spare])
    closed: Grey = np.delete(ink, removed, axis=1)
    return closed


def _stroke_width(ink: Grey) -> float:
    """Mean width of the strokes in pixels: a long stroke's area is half its outline times its width."""
    mask = np.pad(ink > 0.5, 1)
    # Steps across pixel edges overstate a slanted outline, by 4/π over all directions.
    outline = (np.count_nonzero(mask[1:] != mask[:-1]) + np.count_nonzero(mask[:, 1:] != mask[:, :-1])) * np.pi / 4
    return 2 * np.count_nonzero(mask) / outline if outline else 0.0
