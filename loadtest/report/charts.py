"""What a chart is made of: lines of points over axes, or bands stacked on them. Knows nothing of load tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from loadtest.report.scales import Axis

# How many there are; `drawing` has a colour, a marker and a dash for each.
SHADES = 6


@dataclass(frozen=True)
class Point:
    """Where a line goes through; ``low`` and ``high`` end its error bar. Hollow ones are of another kind, which the
    caption must say."""

    x: float
    y: float
    tooltip: str = ""
    label: str = ""
    low: float | None = None
    high: float | None = None
    hollow: bool = False


@dataclass(frozen=True)
class Line:
    """Points in the order in which they are joined. ``shade`` is also the marker and the dash.

    One without a name is not in the legend.
    """

    name: str
    points: tuple[Point, ...]
    shade: int
    marked: Literal["all", "ends", "none"] = "all"
    joined: bool = True

    @property
    def marks(self) -> Sequence[Point]:
        """The points that get a marker."""
        if self.marked == "all":
            return self.points
        return [self.points[0], self.points[-1]] if self.points and self.marked == "ends" else []


@dataclass(frozen=True)
class Rule:
    """A value of the vertical axis, marked over all the width."""

    y: float
    name: str


@dataclass(frozen=True)
class Band:
    """A quantity at each of the steps; hatched where it is no kind of success."""

    name: str
    values: tuple[float, ...]
    shade: int
    hatched: bool = False


@dataclass(frozen=True)
class Chart:
    """Lines over axes, or bands stacked on them: ``edges`` are then the ends of the bands' steps, one more than those.

    ``description`` says in words what is to be seen, ``caption`` is printed below it.
    """

    title: str
    description: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...] = ()
    rules: tuple[Rule, ...] = ()
    bands: tuple[Band, ...] = ()
    edges: tuple[float, ...] = ()
    caption: str = ""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to see."""
        return not any(line.points for line in self.lines) and not any(any(band.values) for band in self.bands)
