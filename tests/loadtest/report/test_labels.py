from __future__ import annotations

from itertools import combinations

from loadtest.report.labels import Box, around, placed, width

FRAME = Box(0, 0, 400, 300)


def test_labels_of_neighbours_hide_neither_each_other_nor_the_points() -> None:
    points = [(100.0, 100.0), (108.0, 103.0), (116.0, 98.0), (104.0, 112.0)]
    marks = [around(*point) for point in points]
    labels = placed([(*point, f"T={2**i}") for i, point in enumerate(points)], marks, [], FRAME)
    assert all(a.box.overlap(b.box) == 0 for a, b in combinations(labels, 2))
    assert all(label.box.overlap(mark) == 0 for label in labels for mark in marks)


def test_a_label_stays_within_the_frame() -> None:
    corners = [(2.0, 2.0), (398.0, 2.0), (2.0, 298.0), (398.0, 298.0)]
    for label in placed([(*corner, "auto within 30 ms") for corner in corners], [], [], FRAME):
        assert not label.box.outside(FRAME)


def test_a_label_would_rather_be_crossed_by_a_line_than_hide_half_a_point() -> None:
    line = Box(101, 0, 400, 300)
    elsewhere = [Box(0, 0, 400, 93), Box(0, 107, 400, 300)]
    half = Box(0, 0, 86, 300)
    (label,) = placed([(100.0, 100.0, "T=1")], [*elsewhere, half], [line], FRAME)
    assert label.anchor == "start"
    (label,) = placed([(100.0, 100.0, "T=1")], elsewhere, [line], FRAME)
    assert label.anchor == "end"


def test_the_box_of_a_label_is_where_its_anchor_says() -> None:
    (right,) = placed([(100.0, 100.0, "T=1")], [], [], FRAME)
    assert right.anchor == "start"
    assert (right.box.left, right.box.right) == (right.x, right.x + width("T=1"))
    (left,) = placed([(100.0, 100.0, "T=1")], [Box(101, 0, 400, 300)], [], FRAME)
    assert (left.anchor, left.box.right) == ("end", left.x)
