"""Where the names of points go, so that they hide neither each other nor the points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Of a 12 px sans-serif letter, on the average and on the safe side.
LETTER_PX = 6.6
_HEIGHT_PX = 12.0
# What is as bad as a square pixel of something hidden.
_OUTSIDE, _CROSSED, _AWAY = 1e6, 0.3, 2.0
# Anchor, and how far from the point: beside it first, then above and below, then cornerwise, then further away.
_PLACES = (
    ("start", 8, 4), ("end", -8, 4), ("middle", 0, -9), ("middle", 0, 17),
    ("start", 7, -6), ("start", 7, 14), ("end", -7, -6), ("end", -7, 14),
    ("middle", 0, -21), ("middle", 0, 29), ("start", 16, -14), ("start", 16, 22), ("end", -16, -14), ("end", -16, 22),
)  # fmt: skip


@dataclass(frozen=True)
class Box:
    """In pixels, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """Area in common."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, wide) * max(0.0, high)

    def outside(self, frame: Box) -> bool:
        """Whether a part of it is not in the frame."""
        return self.left < frame.left or self.right > frame.right or self.top < frame.top or self.bottom > frame.bottom


@dataclass(frozen=True)
class Label:
    """A text with its baseline's point and SVG's anchor."""

    text: str
    x: float
    y: float
    anchor: str

    @property
    def box(self) -> Box:
        """What it covers."""
        wide = width(self.text)
        left = self.x - {"start": 0.0, "middle": wide / 2, "end": wide}[self.anchor]
        return Box(left, self.y - 0.8 * _HEIGHT_PX, left + wide, self.y + 0.2 * _HEIGHT_PX)


def width(text: str) -> float:
    """Of a text of 12 px, in pixels; about."""
    return LETTER_PX * len(text)


def around(x: float, y: float, radius: float = 5.0) -> Box:
    """The square around a point."""
    return Box(x - radius, y - radius, x + radius, y + radius)


def placed(
    wanted: Sequence[tuple[float, float, str]], taken: Sequence[Box], crossed: Sequence[Box], frame: Box
) -> list[Label]:
    """A label for each point and text, in their order.

    Each goes where it covers the least of ``taken`` and of the labels before it, and, which is less bad, of lines that
    it may be ``crossed`` by; of places that are as good the nearest.
    """
    covered = [*taken]
    labels: list[Label] = []
    for x, y, text in wanted:
        candidates = [Label(text, x + right, y + down, anchor) for anchor, right, down in _PLACES]
        costs = [
            _AWAY * index
            + sum(label.box.overlap(box) for box in covered)
            + _CROSSED * sum(label.box.overlap(box) for box in crossed)
            + _OUTSIDE * label.box.outside(frame)
            for index, label in enumerate(candidates)
        ]
        labels.append(candidates[costs.index(min(costs))])
        covered.append(labels[-1].box)
    return labels
