"""`service/METRICS.md` says what there is."""

from __future__ import annotations

import re
from pathlib import Path

from service.gauges import GAUGES
from service.metrics import FAMILIES

PAGE = Path(__file__).parents[2] / "service" / "METRICS.md"
Row = tuple[str, str, tuple[str, ...], str]


def documented() -> list[Row]:
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if "| `" in line]
    return [
        (name.strip("`"), kind, tuple(() if labels == "–" else labels.split(", ")), text)
        for name, kind, labels, _, text in rows
    ]


def test_the_page_has_a_line_for_every_metric_and_no_other() -> None:
    counted = [
        (family.name if family.bounds else f"{family.name}_total", family.bounds, family.labels, family.text)
        for family in FAMILIES
    ]
    there: list[Row] = [
        (name, "histogram" if bounds else "counter", labels, text) for name, bounds, labels, text in counted
    ]
    there += [(gauge.name, gauge.kind, gauge.labels, gauge.text) for gauge in GAUGES]
    assert documented() == there


def test_every_unit_is_the_base_unit_that_the_name_ends_with() -> None:
    units = {"seconds": "s", "joules": "J", "bytes": "bytes", "watts": "W"}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"\| `(\w+?)(?:_total)?` \| \w+ \| [^|]* \| ([^|]*) \|", line):
            name, unit = match.groups()
            for ending, meant in units.items():
                assert (unit == meant) == name.endswith(f"_{ending}"), line
