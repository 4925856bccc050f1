"""Charts, read back from their SVG as an eye would read them: by their axes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from loadtest.report import drawing, words
from loadtest.report.charts import Band, Chart, Line, Point, Rule
from loadtest.report.scales import Axis

NUMBER = r"-?\d+(?:\.\d+)?"


@dataclass(frozen=True)
class Read:
    """An SVG with functions from pixels to values, fitted through the ticks' labels."""

    root: ET.Element
    log: bool

    def all(self, kind: str, name: str = "*") -> list[ET.Element]:
        return [e for e in self.root.iter() if kind in e.get("class", "").split() and name in ("*", e.tag)]

    def to_x(self, pixels: float) -> float:
        ticks = [t for t in self.all("tick") if t.get("text-anchor") == "middle"]
        return self._value(pixels, [(float(t.get("x", "")), t.text or "") for t in ticks])

    def to_y(self, pixels: float) -> float:
        ticks = [t for t in self.all("tick") if t.get("text-anchor") == "end"]
        return self._value(pixels, [(float(t.get("y", "")) - 4, t.text or "") for t in ticks])

    def _value(self, pixels: float, ticks: list[tuple[float, str]]) -> float:
        values = [float(text.replace(",", "")) for _, text in ticks]
        if self.log:
            values = list(np.log(values))
        slope, offset = np.polyfit([at for at, _ in ticks], values, 1)
        found = slope * pixels + offset
        return float(np.exp(found) if self.log else found)

    def marks(self, shade: int) -> list[tuple[float, float]]:
        found = [m for m in self.all("mark") if f"c{shade}" in m.get("class", "")]
        at = [re.findall(NUMBER, m.get("transform", "")) for m in found]
        # Those of the legend are moved with their group.
        return [(self.to_x(float(x)), self.to_y(float(y))) for x, y in at if (x, y) != ("12.0", "0.0")]


def read(chart: Chart) -> Read:
    return Read(ET.fromstring(drawing.draw(chart)), chart.x.log)


def chart(*lines: Line, log: bool = False, **others: object) -> Chart:
    axes = Axis("x, s", words.plain, log=log), Axis("y, ms", words.plain, log=log)
    return Chart("title", "description", *axes, lines, **others)  # type: ignore[arg-type]


@pytest.mark.parametrize("log", [False, True])
def test_points_are_where_the_axes_say(log: bool) -> None:
    points = [(1.0, 20.0), (7.0, 80.0), (30.0, 45.0), (90.0, 700.0)]
    found = read(chart(Line("a", tuple(Point(*p) for p in points), 0), log=log)).marks(0)
    assert np.array(found) == pytest.approx(np.array(points), rel=0.03, abs=0 if log else 2)


def test_error_bars_end_where_the_intervals_do_and_are_cut_at_the_frame() -> None:
    usual = Point(1.0, 50.0, low=40.0, high=60.0)
    wide = Point(2.0, 55.0, low=-1000.0, high=1000.0, hollow=True)
    drawn = read(chart(Line("a", (usual, wide), 0)))
    ends = [[float(y) for y in re.findall(rf"(?:,|V)({NUMBER})", e.get("d", ""))] for e in drawn.all("error")]
    values = [sorted({round(drawn.to_y(y)) for y in each}) for each in ends]
    assert values[0] == [40, 60]
    assert values[1][0] > 20
    assert values[1][-1] < 80


def test_bands_lie_on_each_other_and_are_as_high_as_their_values() -> None:
    bands = (
        Band("T=1", (10.0, 20.0, 0.0), 0),
        Band("T=2", (30.0, 5.0, 40.0), 1),
        Band("T=4", (5.0, 15.0, 10.0), 2),
    )
    drawn = read(chart(bands=bands, edges=(0.0, 10.0, 20.0, 30.0)))
    outlines = [re.findall(rf"({NUMBER}),({NUMBER})", e.get("d", "")) for e in drawn.all("band", "path")]
    read_back = [[(drawn.to_x(float(x)), drawn.to_y(float(y))) for x, y in outline] for outline in outlines]

    def span(outline: list[tuple[float, float]], at: float) -> tuple[float, float]:
        """Lowest and highest crossing of a vertical line."""
        crossed = [
            y0 + (y1 - y0) * (at - x0) / (x1 - x0)
            for (x0, y0), (x1, y1) in zip(outline, [*outline[1:], outline[0]], strict=True)
            if min(x0, x1) <= at < max(x0, x1)
        ]
        return min(crossed), max(crossed)

    for step, at in enumerate((5.0, 15.0, 25.0)):
        below = 0.0
        for band, outline in zip(bands, read_back, strict=True):
            above = below + band.values[step]
            assert span(outline, at) == pytest.approx((below, above), abs=0.5)
            below = above


def test_a_rule_is_at_its_value_and_within_the_axis() -> None:
    drawn = read(chart(Line("a", (Point(1.0, 10.0), Point(2.0, 20.0)), 0), rules=(Rule(100.0, "p99 ≤ 100 ms"),)))
    (line,) = drawn.all("rule")
    assert drawn.to_y(float(line.get("y1", ""))) == pytest.approx(100, rel=0.02)
    assert any(text.text == "p99 ≤ 100 ms" for text in drawn.all("soft"))


def test_no_two_shades_are_alike_without_their_colour() -> None:
    lines = [Line(f"T={i}", (Point(1.0, i), Point(2.0, i + 1)), i) for i in range(6)]
    drawn = read(chart(*lines))
    signs = {
        shade: (
            next(m.get("d") for m in drawn.all("mark") if f"c{shade}" in m.get("class", "")),
            next(m.get("stroke-dasharray") for m in drawn.all("line", "path") if f"c{shade}" in m.get("class", "")),
        )
        for shade in range(6)
    }
    assert len({marker for marker, _ in signs.values()}) == 6
    assert len({dash for _, dash in signs.values()}) == 6


def test_a_legend_names_every_line_that_has_a_name_and_stays_within_the_width() -> None:
    named = [Line(f"a rather long name, number {i}", (Point(1.0, i),), i) for i in range(4)]
    drawn = read(chart(*named, Line("", (Point(1.0, 9.0),), 5), Line("without points", (), 4)))
    groups = [g for g in drawn.root.iter("g") if g.get("transform")]
    assert [g.findtext("text") for g in groups] == [line.name for line in named]
    rights = [
        float(re.findall(NUMBER, g.get("transform", ""))[0]) + 29 + 6.6 * len(g.findtext("text") or "") for g in groups
    ]
    assert max(rights) < drawing.WIDTH
    heights = {float(re.findall(NUMBER, g.get("transform", ""))[1]) for g in groups}
    assert len(heights) == 4


def test_only_the_ends_are_marked_where_only_those_should_be() -> None:
    points = tuple(Point(float(i), float(i)) for i in range(1, 20))
    assert len(read(chart(Line("a", points, 0, marked="ends"))).marks(0)) == 2
    assert not read(chart(Line("a", points, 0, marked="none"))).marks(0)


def test_a_chart_says_in_words_what_it_shows_and_escapes_what_it_is_given() -> None:
    hostile = "</svg><script>alert(1)</script>"
    point = Point(1.0, 1.0, tooltip=hostile, label=hostile)
    made = drawing.draw(Chart(hostile, hostile, Axis(hostile, str), Axis("y", str), (Line(hostile, (point,), 0),)))
    root = ET.fromstring(made)
    assert not list(root.iter("script"))
    assert root.get("role") == "img"
    assert hostile in (root.get("aria-label") or "")
    assert root.findtext("desc") == hostile
    assert any(m.findtext("title") == hostile for m in root.iter("path"))


def test_labels_are_drawn_within_the_chart() -> None:
    drawn = read(chart(Line("a", tuple(Point(float(i), 50.0, label=f"T={i}") for i in range(1, 5)), 0)))
    names = drawn.all("name")
    assert {n.text for n in names} == {"T=1", "T=2", "T=3", "T=4"}
    assert all(0 < float(n.get("x", "")) < drawing.WIDTH for n in names)


@pytest.mark.parametrize("log", [False, True])
def test_a_chart_of_one_point_or_of_equal_ones_is_drawn(log: bool) -> None:
    for points in ((Point(5.0, 5.0),), (Point(5.0, 5.0), Point(5.0, 5.0)), (Point(0.0, 0.0),)):
        assert "nan" not in drawing.draw(chart(Line("a", points, 0), log=log))


def test_a_chart_without_a_value_is_empty() -> None:
    assert chart().empty
    assert chart(bands=(Band("a", (0.0,), 0),), edges=(0.0, 1.0)).empty
    assert not chart(Line("a", (Point(1.0, 1.0),), 0)).empty
