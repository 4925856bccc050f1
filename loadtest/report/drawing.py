"""Charts as SVG.

Shades are classes, `c0` to `c5`, whose colours for light and dark are in `chart.css`; each comes with a marker and a
dash of its own, so that a print without colours tells lines apart. A chart is as wide as a phone, and several go beside
each other where there is room.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from loadtest.report import labels, words
from loadtest.report.charts import SHADES, Band, Chart, Line, Point
from loadtest.report.markup import Markup, joined, tag
from loadtest.report.scales import Scale

WIDTH = 380
_HEIGHT = 236  # of the plot with its axes, without title and legend
_LEFT, _RIGHT, _BOTTOM = 50, 14, 38
_ROW = 17
_BOLD_PX = 7.7  # of a letter of the title
DASHES = ("", "7 3", "2 3", "9 3 2 3", "12 4", "4 2")
# Around the origin: circle, square, triangle, diamond, triangle on its head, cross.
_MARKERS = (
    "M-4.2,0a4.2,4.2 0 1,0 8.4,0a4.2,4.2 0 1,0 -8.4,0z",
    "M-3.8,-3.8h7.6v7.6h-7.6z",
    "M0,-5L4.8,3.8H-4.8z",
    "M0,-5.4L5.4,0L0,5.4L-5.4,0z",
    "M0,5L4.8,-3.8H-4.8z",
    "M-1.6,-5h3.2v3.4h3.4v3.2h-3.4v3.4h-3.2v-3.4h-3.4v-3.2h3.4z",
)


def draw(chart: Chart) -> Markup:
    """The chart as one `svg` element."""
    drawing, height = inner(chart)
    return tag(
        "svg",
        tag("title", chart.title),
        tag("desc", chart.description),
        drawing,
        class_="chart",
        viewBox=f"0 0 {WIDTH} {height:g}",
        role="img",
        aria_label=f"{chart.title}. {chart.description}",
    )


def inner(chart: Chart, width: float = WIDTH) -> tuple[Markup, float]:
    """What is in the chart, to be set into a larger drawing, and its height in pixels."""
    keys, rows = _legend(chart, width)
    top = 44 + _ROW * rows
    frame = labels.Box(_LEFT, top, width - _RIGHT, top + _HEIGHT - _BOTTOM)
    values = list(_values(chart))
    x, y = chart.x.scale(v for v, _ in values), chart.y.scale(v for _, v in values)
    plot = _Plot(chart, frame, x, y)
    drawing = joined(
        tag("text", words.short(chart.title, round(width / _BOLD_PX)), x=2, y=14, class_="heading"),
        keys,
        tag("text", chart.y.title, x=2, y=top - 10, class_="soft"),
        *plot.axes(),
        *plot.bands(),
        *plot.rules(),
        *plot.lines(),
        *plot.names(),
    )
    return drawing, top + _HEIGHT


def marker(shade: int, x: float, y: float, *, hollow: bool = False, tooltip: str = "") -> Markup:
    """The sign of a shade at a point."""
    return tag(
        "path",
        tag("title", tooltip) if tooltip else None,
        d=_MARKERS[shade % SHADES],
        transform=f"translate({x:.1f},{y:.1f})",
        class_=f"c{shade % SHADES} mark{' hollow' if hollow else ''}",
    )


@dataclass(frozen=True)
class _Plot:
    chart: Chart
    frame: labels.Box
    x: Scale
    y: Scale

    def at(self, x: float, y: float) -> tuple[float, float]:
        """In pixels."""
        frame = self.frame
        return frame.left + self.x(x) * (frame.right - frame.left), frame.bottom - self.y(y) * (
            frame.bottom - frame.top
        )

    def axes(self) -> Iterable[Markup]:
        frame, chart = self.frame, self.chart
        for value in chart.y.ticks_of(self.y):
            _, y = self.at(self.x.low, value)
            yield tag("line", x1=frame.left, y1=y, x2=frame.right, y2=y, class_="grid")
            yield tag("text", chart.y.name(value), x=frame.left - 6, y=y + 4, class_="tick", text_anchor="end")
        yield tag("line", x1=frame.left, y1=frame.bottom, x2=frame.right, y2=frame.bottom, class_="axis")
        free = -math.inf
        for value in chart.x.ticks_of(self.x):
            x, _ = self.at(value, self.y.low)
            name = chart.x.name(value)
            yield tag("line", x1=x, y1=frame.bottom, x2=x, y2=frame.bottom + 4, class_="axis")
            if x - labels.width(name) / 2 > free:
                yield tag("text", name, x=x, y=frame.bottom + 16, class_="tick", text_anchor="middle")
                free = x + labels.width(name) / 2 + 5
        middle = (frame.left + frame.right) / 2
        yield tag("text", chart.x.title, x=middle, y=frame.bottom + 33, class_="soft", text_anchor="middle")

    def rules(self) -> Iterable[Markup]:
        for rule in self.chart.rules:
            _, y = self.at(self.x.low, rule.y)
            yield tag("line", x1=self.frame.left, y1=y, x2=self.frame.right, y2=y, class_="rule")
            yield tag("text", rule.name, x=self.frame.left + 4, y=y - 4, class_="soft halo")

    def lines(self) -> Iterable[Markup]:
        for line in self.chart.lines:
            shade = line.shade % SHADES
            ends = [self.at(p.x, p.y) for p in line.points]
            if line.joined and len(ends) > 1:
                yield tag("path", d=_path(ends), class_=f"c{shade} line", stroke_dasharray=DASHES[shade] or None)
            for point in line.points:
                if point.low is not None and point.high is not None:
                    yield self._error(point, shade)
        for line in self.chart.lines:
            for point in line.marks:
                yield marker(line.shade, *self.at(point.x, point.y), hollow=point.hollow, tooltip=point.tooltip)

    def _error(self, point: Point, shade: int) -> Markup:
        """With caps where its ends are within the frame."""
        x, top, bottom = self._bar(point)
        caps = "".join(f"M{x - 3:.1f},{y:.1f}h6" for y in (top, bottom) if self.frame.top < y < self.frame.bottom)
        return tag("path", d=f"M{x:.1f},{top:.1f}V{bottom:.1f}{caps}", class_=f"c{shade} error")

    def _bar(self, point: Point) -> tuple[float, float, float]:
        x, low = self.at(point.x, point.y if point.low is None else point.low)
        _, high = self.at(point.x, point.y if point.high is None else point.high)
        return x, max(high, self.frame.top), min(low, self.frame.bottom)

    def _taken(self) -> tuple[list[labels.Box], list[labels.Box]]:
        """Markers, which no label may hide, and lines and error bars, which may cross one."""
        marks = [labels.around(*self.at(p.x, p.y)) for line in self.chart.lines for p in line.marks]
        crossed: list[labels.Box] = []
        for line in self.chart.lines:
            ends = [self.at(p.x, p.y) for p in line.points]
            if line.joined:
                crossed += (labels.around(*at, radius=2) for a, b in pairwise(ends) for at in _between(a, b))
            bars = (self._bar(p) for p in line.points if p.low is not None)
            crossed += (labels.Box(x - 1, top, x + 1, bottom) for x, top, bottom in bars)
        return marks, crossed

    def names(self) -> Iterable[Markup]:
        """The labels of points, and those of bands in the middle of where they are widest."""
        wanted = [(*self.at(p.x, p.y), p.label) for line in self.chart.lines for p in line.points if p.label]
        for label in labels.placed(wanted, *self._taken(), self.frame):
            yield tag("text", label.text, x=label.x, y=label.y, text_anchor=label.anchor, class_="name halo")
        for band, below in zip(self.chart.bands, self._below(), strict=True):
            tall = max(range(len(band.values)), key=lambda i: band.values[i], default=None)
            if tall is None or not band.values[tall]:
                continue
            middle = (self.chart.edges[tall] + self.chart.edges[tall + 1]) / 2
            x, y = self.at(middle, below[tall] + band.values[tall] / 2)
            _, top = self.at(middle, below[tall] + band.values[tall])
            _, bottom = self.at(middle, below[tall])
            half = labels.width(band.name) / 2
            if bottom - top > 12:
                x = min(max(x, self.frame.left + half), self.frame.right - half)
                yield tag("text", band.name, x=x, y=y + 4, text_anchor="middle", class_="name halo")

    def bands(self) -> Iterable[Markup]:
        edges = self.chart.edges
        for band, below in zip(self.chart.bands, self._below(), strict=True):
            above = [low + value for low, value in zip(below, band.values, strict=True)]
            over = [end for (a, b), y in zip(pairwise(edges), above, strict=True) for end in ((a, y), (b, y))]
            under = [end for (a, b), y in zip(pairwise(edges), below, strict=True) for end in ((a, y), (b, y))]
            outline = _path([self.at(*end) for end in (*over, *reversed(under))]) + "z"
            kind = "hatched" if band.hatched else f"c{band.shade % SHADES} band d{band.shade % SHADES}"
            yield tag("path", tag("title", band.name), d=outline, class_=kind)

    def _below(self) -> list[list[float]]:
        """For each band what lies under it."""
        under: list[list[float]] = []
        height = [0.0] * max(0, len(self.chart.edges) - 1)
        for band in self.chart.bands:
            under.append(height)
            height = [a + b for a, b in zip(height, band.values, strict=True)]
        return under


def _between(a: tuple[float, float], b: tuple[float, float]) -> Iterable[tuple[float, float]]:
    """Points on the way, some pixels apart."""
    steps = max(1, round(math.dist(a, b) / 6))
    return ((a[0] + (b[0] - a[0]) * i / steps, a[1] + (b[1] - a[1]) * i / steps) for i in range(1, steps))


def _values(chart: Chart) -> Iterable[tuple[float, float]]:
    for line in chart.lines:
        for point in line.points:
            yield point.x, point.y
            for end in (point.low, point.high):
                # A few samples' wide bars do not set the scale for all the others: they are cut off.
                if end is not None and not point.hollow:
                    yield point.x, end
    rules = [rule.y for rule in chart.rules]
    xs = [p.x for line in chart.lines for p in line.points] or list(chart.edges)
    yield from ((xs[0], y) for y in rules if xs)
    if chart.bands:
        totals = [sum(step) for step in zip(*(band.values for band in chart.bands), strict=True)]
        yield from ((edge, 0.0) for edge in chart.edges)
        yield from ((edge, total) for edge, total in zip(chart.edges, totals, strict=False))


def _legend(chart: Chart, width: float) -> tuple[Markup, int]:
    """The keys in rows, and how many rows."""
    keys: list[Markup] = []
    x, row = 2.0, 0
    for name, sign, wide in [*_line_keys(chart.lines), *_band_keys(chart.bands)]:
        needed = wide + 5 + labels.width(name) + 12
        if x > 2 and x + needed > width:
            x, row = 2.0, row + 1
        y = 30 + _ROW * row
        keys.append(tag("g", sign, tag("text", name, x=wide + 5, y=4), transform=f"translate({x:.1f},{y})"))
        x += needed
    return joined(*keys), row + 1 if keys else 0


def _line_keys(lines: Sequence[Line]) -> Iterable[tuple[str, Markup, int]]:
    for line in lines:
        if not line.points or not line.name:
            continue
        shade = line.shade % SHADES
        stroke = tag("path", d="M0,0H24", class_=f"c{shade} line", stroke_dasharray=DASHES[shade] or None)
        yield line.name, joined(stroke if line.joined else None, marker(shade, 12, 0) if line.marks else None), 24


def _band_keys(bands: Sequence[Band]) -> Iterable[tuple[str, Markup, int]]:
    for band in bands:
        kind = "hatched" if band.hatched else f"c{band.shade % SHADES} band d{band.shade % SHADES}"
        yield band.name, tag("rect", x=0, y=-6, width=14, height=12, class_=kind), 14


def _path(ends: Sequence[tuple[float, float]]) -> str:
    """Through these points, in tenths of a pixel; a point that is the one before it is left out."""
    drawn = [f"{x:.1f},{y:.1f}" for x, y in ends]
    return "M" + "L".join(each for i, each in enumerate(drawn) if not i or each != drawn[i - 1])
