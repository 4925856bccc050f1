"""The picture for a README: one SVG file that needs nothing else, and is legible on any page."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from loadtest.record import Record
from loadtest.report import pareto
from tests.loadtest.report import records

SVG = "{http://www.w3.org/2000/svg}"


def test_it_is_one_file_of_three_panels_with_a_point_for_each_way(suite: Record, tmp_path: Path) -> None:
    path = tmp_path / "pareto.svg"
    pareto.write(suite, path)
    root = ET.parse(path).getroot()
    text = [e.text or "" for e in root.iter(f"{SVG}text")]
    assert sum(t.startswith("Accuracy against") for t in text) == 3
    assert [text.count(f"T={t}") for t in (1, 4)] == [3, 3]
    assert text.count("auto") == 2
    assert any("Hollow: the server chose the budget (auto within 30 ms)." in t for t in text)
    assert "numbers" in text
    assert any("A Processor, 2 cores" in t for t in text)
    assert any("estimate for hypothetical hardware (horowitz-45nm-fp32)" in t for t in text)


def test_it_brings_its_own_ground_and_both_schemes_and_asks_nobody(suite: Record) -> None:
    drawn = pareto.svg(suite)
    root = ET.fromstring(drawn)
    ground = next(root.iter(f"{SVG}rect"))
    assert (ground.get("width"), ground.get("height"), ground.get("fill")) == ("100%", "100%", "var(--card)")
    assert "prefers-color-scheme: dark" in drawn
    assert not re.search(r"(href|src|@import|url\((?!#))", drawn)
    assert re.findall(r"https?://[^\"' ]+", drawn) == ["http://www.w3.org/2000/svg"]


def test_models_of_several_tasks_are_rows(suite: Record) -> None:
    servers = (records.NUMBERS, records.MNIST)
    runs = [records.run(s, t, 100.0, seconds=2) for s in servers for t in (1, 4)]
    alone, both = (ET.fromstring(pareto.svg(r)) for r in (suite, records.record(runs, servers)))
    assert float(both.get("height", "")) > 1.5 * float(alone.get("height", ""))
    assert {"numbers", "mnist"} <= {e.text for e in both.iter(f"{SVG}text")}


def test_without_any_accuracy_there_is_nothing_to_draw(suite: Record) -> None:
    blank = tuple(replace(r, labelled=0, correct=0) for r in suite.runs)
    assert pareto.svg(replace(suite, runs=blank))
    for nothing in (replace(suite, runs=blank, models=()), replace(suite, runs=())):
        with pytest.raises(pareto.NothingToDraw):
            pareto.svg(nothing)


def test_names_are_escaped(suite: Record) -> None:
    name = '"><script>x</script>\x00'
    hostile = replace(
        suite, runs=tuple(replace(r, model=name) for r in suite.runs), models=(replace(suite.models[0], name=name),)
    )
    assert not list(ET.fromstring(pareto.svg(hostile)).iter(f"{SVG}script"))
