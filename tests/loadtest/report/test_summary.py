from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.record import Record
from loadtest.report import summary


def rows(record: Record, path: Path) -> list[dict[str, str]]:
    summary.write(record, path)
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_run_is_a_line_with_its_figures(suite: Record, tmp_path: Path) -> None:
    found = rows(suite, tmp_path / "runs.csv")
    assert [line["run"] for line in found] == [run.name for run in suite.runs]
    for line, run in zip(found, suite.runs, strict=True):
        figures = {
            "offered_requests_per_s": run.offered_rate,
            "answered_share": run.answered_share,
            "images_per_s": run.images / run.seconds,
            "latency_p99_ms": 1000 * (run.latency.quantile_s(0.99) or 0),
            "service_p50_ms": 1000 * (run.service.quantile_s(0.5) or 0),
            "queue_mean_ms": 1000 * run.queue.mean_s,
            "accuracy_share": run.correct / run.labelled,
            "spikes_per_image": run.spikes / run.images,
            "energy_per_image_nj": run.energy_nj / run.images,
            "refused_requests": run.outcomes.get("refused", 0),
        }
        assert {key: float(line[key]) for key in figures} == pytest.approx(figures, rel=1e-4)


def test_columns_that_have_a_unit_end_with_it(suite: Record, tmp_path: Path) -> None:
    for name in rows(suite, tmp_path / "runs.csv")[0]:
        if any(what in name for what in ("latency", "service", "dispatch", "queue", "compute")):
            assert name.endswith("_ms")
        assert "energy" not in name or name.endswith("_nj")


def test_what_is_not_known_is_empty(suite: Record, tmp_path: Path) -> None:
    blank = replace(suite.runs[0], labelled=0, correct=0, offered_rate=None)
    (line,) = rows(replace(suite, runs=(blank,)), tmp_path / "runs.csv")
    assert [line[key] for key in ("accuracy_share", "offered_requests_per_s", "latency_p999_ms")] == ["", "", ""]


def test_an_invalid_run_says_so_and_why(suite: Record, tmp_path: Path) -> None:
    (line,) = rows(replace(suite, runs=(replace(suite.runs[0], invalid=("busy, too",)),)), tmp_path / "runs.csv")
    assert (line["valid"], line["invalid_because"]) == ("no", "busy, too")


def test_a_name_is_no_formula(suite: Record, tmp_path: Path) -> None:
    named = tuple(
        replace(suite.runs[0], name=name) for name in ('=cmd|"/c calc"!A1', "+1", "-1", "@x", "a\nb", "plain")
    )
    found = [line["run"] for line in rows(replace(suite, runs=named), tmp_path / "runs.csv")]
    assert found == ['\'=cmd|"/c calc"!A1', "'+1", "'-1", "'@x", "a\N{REPLACEMENT CHARACTER}b", "plain"]
