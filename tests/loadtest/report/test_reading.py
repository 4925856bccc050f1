from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from loadtest.record import AtBudget, Distribution, Record
from loadtest.report import reading
from tests.loadtest.report import records
from tests.loadtest.report.records import AUTO, FACTORED, NUMBERS, run


def test_a_curve_is_of_one_way_of_asking_under_growing_load(suite: Record) -> None:
    found = {curve.way: curve for curve in reading.curves(suite)}
    assert list(found) == ["1", "4", "auto within 30 ms"]
    rates = [r.offered_rate for r in found["4"].runs]
    assert rates == sorted(rates, key=lambda rate: rate or 0)
    # Four runs are a curve without the short ones of the search.
    assert {r.scenario for r in found["4"].runs} == {"open"}


def test_a_search_alone_is_a_curve_too(suite: Record) -> None:
    searched = replace(suite, runs=tuple(r for r in suite.runs if r.scenario == "find-peak"))
    assert [len(curve.runs) for curve in reading.curves(searched)] == [6, 6]


def test_closed_loops_are_curves_of_their_own(suite: Record) -> None:
    closed = [replace(r, scenario="closed", offered_rate=None) for r in suite.runs[:2]]
    found = reading.curves(replace(suite, runs=(*suite.runs, *closed)))
    assert [(c.way, c.loop) for c in found][:2] == [("1", "open"), ("1", "closed")]


def test_budgets_come_in_their_order_and_what_the_server_chooses_after_them() -> None:
    runs = [run(FACTORED, t, 50.0, seconds=1) for t in (AUTO, 8, 1, 2)]
    assert [way for _, way in reading.ways(records.record(runs))] == ["1", "2", "8", "auto"]


def test_invalid_runs_stand_for_nothing(suite: Record) -> None:
    bad = replace(suite, runs=tuple(replace(r, invalid=("busy",)) for r in suite.runs))
    assert not reading.curves(bad)
    assert not reading.choices(bad)


def test_a_choice_is_the_least_load_the_peak_and_the_accuracy_of_all_runs(suite: Record) -> None:
    one = next(c for c in reading.choices(suite) if c.way == "1")
    own = [r for r in suite.runs if r.way == "1"]
    assert one.light.offered_rate == min(r.offered_rate or 0 for r in own)
    assert one.peak
    assert one.at_peak
    assert one.at_peak.name == one.peak.run
    assert one.accuracy
    assert one.accuracy.share == sum(r.correct for r in own) / sum(r.labelled for r in own)
    assert one.energy_nj == sum(r.energy_nj for r in own) / sum(r.images for r in own)


def test_what_the_server_chose_has_the_accuracy_of_its_own_run(suite: Record) -> None:
    auto = next(c for c in reading.choices(suite) if c.way.startswith("auto"))
    assert auto.accuracy
    assert auto.accuracy.share == auto.light.correct / auto.light.labelled


def test_a_single_stream_stands_for_little_load_before_all_others(suite: Record) -> None:
    alone = replace(suite.runs[0], scenario="single-stream", offered_rate=None, name="alone")
    found = reading.choices(replace(suite, runs=(*suite.runs, alone)))
    assert next(c for c in found if c.way == "1").light.name == "alone"


def test_a_load_that_was_refused_in_part_stands_for_little_load_only_where_there_is_no_other(suite: Record) -> None:
    refused = replace(suite.runs[0], offered_rate=1.0, outcomes={"answered": 50, "refused": 50}, name="refused")
    assert reading.choices(replace(suite, runs=(*suite.runs, refused)))[0].light.name != "refused"
    assert reading.choices(replace(suite, runs=(refused,)))[0].light.name == "refused"


def test_without_labels_accuracy_is_the_cards_by_the_budgets_that_answered(suite: Record) -> None:
    some = replace(
        suite.runs[0],
        labelled=0,
        correct=0,
        budgets=tuple(AtBudget(t, n, 0, 0, 0.0, 0.0, Distribution.of({})) for t, n in ((1, 300), (4, 100))),
    )
    found = reading.accuracy(suite, some)
    assert found
    assert found.share == pytest.approx((300 * 0.838 + 100 * 0.863) / 400)
    assert (found.low, found.high, found.measured) == (found.share, found.share, False)


def test_where_neither_labels_nor_the_card_know_it_there_is_no_accuracy(suite: Record) -> None:
    blank = replace(suite.runs[0], labelled=0, correct=0)
    assert reading.accuracy(replace(suite, models=()), blank) is None
    assert reading.accuracy(suite, replace(blank, budgets=(), images=0)) is None


def test_an_interval_is_of_different_pictures(suite: Record) -> None:
    few = replace(suite.runs[0], labelled=1000, correct=850, parameters={"pictures": 100})
    many = replace(few, parameters={})
    widths = [(a.high - a.low) for r in (few, many) if (a := reading.accuracy(suite, r))]
    assert widths[0] == pytest.approx(widths[1] * np.sqrt(10), rel=0.05)


def test_a_course_is_a_ramp_in_its_order_with_its_deadline(suite: Record) -> None:
    (course,) = reading.courses(suite)
    assert [r.scenario for r in course.runs] == ["ramp"] * 3
    assert course.deadline_s == 0.03


def test_without_a_ramp_a_course_is_the_largest_load_at_which_several_budgets_answered(suite: Record) -> None:
    runs = tuple(replace(r, scenario="open") for r in suite.runs)
    (course,) = reading.courses(replace(suite, runs=runs))
    assert course.runs == (max((r for r in runs if r.way.startswith("auto")), key=lambda r: r.offered_rate or 0),)
    fixed = tuple(r for r in runs if r.way.isdecimal())
    assert not reading.courses(replace(suite, runs=fixed))


@pytest.mark.parametrize(
    ("objective", "found"),
    [
        ("p99 ≤ 50 ms", ("p99", 0.05)),
        ("p99=50ms", ("p99", 0.05)),
        ("p99.9 <= 2.5 ms, 99 % answered", ("p99.9", 0.0025)),
        ("something else", None),
    ],
)
def test_an_objective_is_read_where_it_is_about_a_latency(
    suite: Record, objective: str, found: tuple[str, float] | None
) -> None:
    assert reading.objective_s([replace(suite.peaks[0], objective=objective)]) == found


def test_two_objectives_are_none(suite: Record) -> None:
    peaks = [replace(suite.peaks[0], objective=f"p99 ≤ {ms} ms") for ms in (10, 50)]
    assert reading.objective_s(peaks) is None


def test_the_quantile_curve_is_that_of_the_samples() -> None:
    samples = np.random.default_rng(1).gamma(3, 0.004, 20000)
    curve = list(reading.steps_of(records.distribution(list(samples))))
    assert curve[-1][0] == pytest.approx(0.999)
    for share, seconds in curve[1:]:
        assert seconds == pytest.approx(np.quantile(samples, share, method="inverted_cdf"), rel=0.01)


@pytest.mark.parametrize(("count", "last"), [(19, None), (100, 0.9), (1000, 0.99), (50000, 0.999)])
def test_the_quantile_curve_ends_where_ten_samples_lie_beyond(count: int, last: float | None) -> None:
    curve = list(reading.steps_of(records.distribution([0.001 * (1 + i) for i in range(count)])))
    assert (curve[-1][0] if curve else None) == pytest.approx(last)


def test_what_is_left_of_the_mean_is_neither_queue_nor_compute_nor_the_client() -> None:
    found = run(NUMBERS, 1, 50.0, seconds=2)
    parts = found.queue.mean_s + found.compute.mean_s + reading.rest_s(found) + 0.00005
    assert parts == pytest.approx(found.latency.mean_s, rel=1e-3)
    assert reading.rest_s(found) == pytest.approx(records.OVERHEAD_S, rel=0.2)


def test_an_overload_is_a_course_and_no_point_of_a_curve_and_no_little_load(suite: Record) -> None:
    shape = (0.1, 1.0, 0.1)
    overload = run(NUMBERS, AUTO, 1400.0, seconds=3, deadline_s=0.03, scenario="overload", shape=shape, window_s=1.0)
    record = records.record([*(r for r in suite.runs if r.scenario != "ramp"), overload])
    (course,) = reading.courses(record)
    assert course.runs == (overload,)
    assert not any(curve.way.startswith("auto") for curve in reading.curves(record))
    light = replace(suite.runs[-3], offered_rate=2000.0, name="light")
    found = reading.choices(replace(record, runs=(overload, light)))
    assert [choice.light.name for choice in found] == ["light"]
    assert not reading.choices(replace(record, runs=(overload,)))
    assert overload.offered_rate == pytest.approx(1400 * 0.4)
    assert reading.top_rate(overload) == pytest.approx(1400, rel=0.1)
    assert reading.top_rate(light) == 2000


def test_turns_stand_for_little_load_before_a_stream_alone(suite: Record) -> None:
    made = [
        replace(suite.runs[0], scenario=scenario, offered_rate=None, name=scenario)
        for scenario in ("single-stream", "in-turns")
    ]
    found = reading.choices(replace(suite, runs=(*suite.runs, *made)))
    assert next(c for c in found if c.way == "1").light.name == "in-turns"
    # They are a point of no curve: each way has only its turns.
    curves = reading.curves(replace(suite, runs=(*suite.runs, made[1])))
    assert [len(curve.runs) for curve in curves] == [len(curve.runs) for curve in reading.curves(suite)]


def test_little_load_is_said_to_be_the_same_for_all_only_where_it_was(suite: Record) -> None:
    by_rates = reading.choices(suite)
    in_turns = [replace(c, light=replace(c.light, scenario="in-turns")) for c in by_rates]
    alone = [replace(c, light=replace(c.light, scenario="single-stream")) for c in by_rates]
    assert reading.little_load(by_rates) == reading.little_load([*in_turns[:1], *by_rates[1:]]) == "little load"
    assert reading.little_load(in_turns) == "one request at a time, budgets in turns"
    assert reading.little_load(alone) == "one request at a time"


def test_a_tail_of_few_answers_is_marked() -> None:
    few, enough = (records.distribution([0.01] * count) for count in (999, 1000))
    assert reading.told_ms(few, (0.5, 0.9, 0.99, 0.999)) == ("10.0", "10.0", "≈10.0", "–")
    assert reading.told_ms(enough, (0.5, 0.99)) == ("10.0", "10.0")


def test_what_the_search_gave_up_early_is_no_point_of_a_curve(suite: Record) -> None:
    searched = [r for r in suite.runs if r.scenario == "find-peak" and r.way == "1"]
    short = replace(searched[0], seconds=0.5 * searched[0].seconds)
    (curve,) = reading.curves(replace(suite, runs=(short, *searched[1:])))
    assert len(curve.runs) == len(searched) - 1
    assert short not in curve.runs
