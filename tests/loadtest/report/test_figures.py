"""Which figures of a record become which points."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loadtest.record import Record
from loadtest.report import figures, reading
from loadtest.report.charts import Chart
from tests.loadtest.report import records


def points(chart: Chart) -> dict[str, tuple[float, float]]:
    return {p.label: (p.x, p.y) for line in chart.lines for p in line.points}


def test_the_overview_sets_accuracy_against_energy_latency_and_the_peak(suite: Record) -> None:
    choices = reading.choices(suite)
    charts = figures.pareto(choices, "p99 ≤ 50 ms")
    assert [c.x.title.split()[0] for c in charts] == ["energy", "median", "images/s"]
    for choice in choices:
        label = "T=" + choice.way if choice.way.isdecimal() else "auto"
        assert choice.accuracy
        energy, latency, rate = (points(chart).get(label) for chart in charts)
        assert energy == ((choice.energy_nj or 0) / 1000, 100 * choice.accuracy.share)
        assert latency == (1000 * (choice.light.latency.quantile_s(0.5) or 0), 100 * choice.accuracy.share)
        if choice.at_peak:
            assert rate == (choice.at_peak.images / choice.at_peak.seconds, energy[1])
        else:
            assert rate is None


def test_two_ways_of_choosing_are_labelled_in_full(suite: Record) -> None:
    runs = [records.run(records.NUMBERS, records.AUTO, 50.0, seconds=1, deadline_s=s) for s in (0.03, 0.1)]
    found = points(figures.pareto(reading.choices(replace(suite, runs=(*suite.runs, *runs))), "")[0])
    assert {"auto within 30 ms", "auto within 100 ms"} <= set(found)


def test_what_the_server_chose_is_hollow_and_on_no_line(suite: Record) -> None:
    chart = figures.pareto(reading.choices(suite), "")[0]
    assert {(line.joined, p.hollow) for line in chart.lines for p in line.points} == {(True, False), (False, True)}


def test_accuracy_by_the_card_has_no_bar(suite: Record) -> None:
    for record, bars in ((suite, True), (records.unlabelled(suite), False)):
        chart = figures.pareto(reading.choices(record), "")[0]
        drawn = [p for line in chart.lines for p in line.points]
        assert drawn
        assert all((p.low is not None) == bars for p in drawn)


def test_models_of_one_task_share_a_picture_and_others_do_not() -> None:
    servers = (records.NUMBERS, records.FACTORED, records.MNIST)
    runs = [records.run(s, t, 100.0, seconds=4) for s in servers for t in (1, 4)]
    tasks = figures.tasks(reading.choices(records.record(runs, servers)))
    assert [figures.models(task) for task in tasks] == ["numbers, numbers-factored", "mnist"]


def test_a_run_that_was_not_answered_in_full_is_hollow_on_the_curve(suite: Record) -> None:
    curves = reading.curves(suite)
    chart = figures.hockey_stick(curves, "numbers", ("p99", 0.05))
    for curve, line in zip(curves, chart.lines, strict=True):
        assert [p.hollow for p in line.points] == [r.answered_share < 0.99 for r in curve.runs]
        assert [p.x for p in line.points] == [r.images / r.seconds for r in curve.runs]
        assert [p.y for p in line.points] == [1000 * (r.latency.quantile_s(0.99) or 0) for r in curve.runs]
    assert [rule.y for rule in chart.rules] == [50]
    assert any(p.hollow for line in chart.lines for p in line.points)


def test_right_answers_are_of_all_requests(suite: Record) -> None:
    chart = figures.right_answers(suite, reading.curves(suite), "numbers")
    overloaded = max(
        (r for r in suite.runs if r.way == "4" and r.scenario == "open"), key=lambda r: r.offered_rate or 0
    )
    last = next(line for line in chart.lines if line.name == "T=4").points[-1]
    assert last.x == overloaded.offered_rate
    assert last.y == pytest.approx(100 * overloaded.correct / overloaded.offered)


def test_every_way_keeps_its_shade_in_all_charts_of_a_model(suite: Record) -> None:
    curves = reading.curves(suite)
    shades = [line.shade for line in figures.hockey_stick(curves, "numbers", None).lines]
    assert shades == [line.shade for line in figures.right_answers(suite, curves, "numbers").lines]
    assert shades == [0, 1, figures.CHOSEN]


def test_percentiles_begin_at_the_least_and_rise(suite: Record) -> None:
    run = suite.runs[-2]
    (line,) = figures.quantiles([("x", "1", run.latency)], "title").lines
    assert line.points[0].x == 1
    assert line.points[0].y == pytest.approx(1000 * (run.latency.quantile_s(0.0) or 0), rel=0.01)
    assert [p.y for p in line.points] == sorted(p.y for p in line.points)


def test_a_course_counts_every_image_and_every_request_that_was_not_answered(suite: Record) -> None:
    (course,) = reading.courses(suite)
    budgets, latency = figures.course(course)
    windows = [w for run in course.runs for w in run.windows]
    for band in budgets.bands:
        counted = sum(v * w.seconds for v, w in zip(band.values, windows, strict=True))
        if band.hatched:
            assert counted == pytest.approx(sum(r.offered - r.outcomes["answered"] for r in course.runs))
        else:
            assert counted == sum(b.images for r in course.runs for b in r.budgets if f"T={b.timesteps}" == band.name)
    assert budgets.edges[-1] == pytest.approx(sum(r.seconds for r in course.runs))
    assert [line.name for line in latency.lines] == ["p50", "p99"]
    assert [rule.y for rule in latency.rules] == [30]


def test_requests_of_several_images_that_were_not_answered_count_as_several(suite: Record) -> None:
    (course,) = reading.courses(suite)
    batches = tuple(replace(run, images=4 * run.images) for run in course.runs)
    few, many = (figures.course(c)[0].bands[-1] for c in (course, replace(course, runs=batches)))
    assert sum(many.values) == pytest.approx(4 * sum(few.values))
