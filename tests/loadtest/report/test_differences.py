"""What differs between two records: that noise raises no alarm, and that what is no noise does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from loadtest.record import Attempt, Peak, Record, Run
from loadtest.report.comparable import windows
from loadtest.report.differences import METRICS, RISK, Differences, Line, Metric, Tolerance, compare
from tests.loadtest.report import records
from tests.loadtest.report.repeated import noisy, record

ANY = Tolerance(0.0, 0.0)
USUAL = Tolerance()


def alarms(found: Differences) -> set[str]:
    return {str(line.verdict) for line in found.lines} - {"noise"}


def of(found: Differences, metric: Metric, run: str = "") -> Line:
    return next(line for line in found.lines if (line.metric, line.run) == (metric, run))


def one(draw_a: int, draw_b: int, **changes: float) -> Differences:
    a = noisy("run", np.random.default_rng(draw_a))
    b = noisy("run", np.random.default_rng(draw_b), **changes)  # type: ignore[arg-type]
    return compare(records.record([a]), records.record([b]), USUAL)


# --- Noise -------------------------------------------------------------------------------------------------------


def share_of_alarms(trials: int, windows: int) -> float:
    draw = np.random.default_rng(11)
    found = (compare(record(draw, windows=windows), record(draw, windows=windows), ANY) for _ in range(trials))
    return sum(bool(alarms(each)) for each in found) / trials


def test_two_records_of_the_same_raise_an_alarm_no_more_often_than_said() -> None:
    """At any difference at all, in 24 figures. Of 40 comparisons more than 6 have one with a chance of 0.4 %."""
    assert stats.binom.sf(6, 40, RISK) < 0.004
    assert share_of_alarms(40, 20) <= 6 / 40


@pytest.mark.long
@pytest.mark.parametrize("windows", [12, 20, 40])
def test_two_records_of_the_same_raise_an_alarm_no_more_often_than_said_in_many_trials(windows: int) -> None:
    assert share_of_alarms(500, windows) <= RISK + 3 * np.sqrt(RISK * (1 - RISK) / 500)


@pytest.mark.long
def test_two_records_of_a_simulated_server_raise_an_alarm_no_more_often_than_said() -> None:
    """Windows of a queue, which hang together as those of a server do, up to 60 % of its capacity."""

    def made(seed: int) -> Record:
        loads = (100.0, 200.0, 350.0)
        return records.record([records.run(records.NUMBERS, 2, x, seconds=6, window_s=0.5, seed=seed) for x in loads])

    found = [compare(made(2 * i), made(2 * i + 1), ANY) for i in range(40)]
    assert stats.binom.sf(6, 40, RISK) < 0.005
    assert sum(bool(alarms(each)) for each in found) <= 6


def test_a_slowdown_of_a_fifth_is_found_and_nothing_else_is() -> None:
    draw = np.random.default_rng(5)
    found = [compare(record(draw), record(draw, slower=1.2), USUAL) for _ in range(20)]
    slower = [{line.metric for line in each.lines if line.verdict == "worse"} for each in found]
    assert sum("p50" in each for each in slower) >= 18
    assert all(each <= {"p50", "p99"} for each in slower)
    assert not any(line.verdict == "better" for each in found for line in each.lines)


def test_a_slowdown_of_a_simulated_server_is_found() -> None:
    slow = replace(records.NUMBERS, slower=1.2)
    before = [records.run(records.NUMBERS, t, 100.0, seconds=8, seed=1) for t in (1, 2)]
    after = [records.run(slow, t, 100.0, seconds=8, seed=2) for t in (1, 2)]
    found = compare(records.record(before), records.record(after), USUAL)
    assert of(found, "p50").verdict == "worse"
    # What is computed takes 20 % longer; what surrounds it, as long as before.
    assert 1.1 < 1 + of(found, "p50").change < 1.25
    assert found.status == 1


# --- Figures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "metric", "verdict", "change"),
    [
        ({"slower": 2.0}, "p50", "worse", 1.0),
        ({"slower": 0.5}, "p50", "better", -0.5),
        ({"slower": 2.0}, "p99", "worse", 1.0),
        ({"rate": 300.0}, "throughput", "worse", -0.5),
        ({"rate": 1200.0}, "throughput", "better", 1.0),
        ({"answered": 0.7}, "answered", "worse", -0.295),
        ({"accuracy": 0.6}, "accuracy", "worse", -0.25),
        ({"accuracy": 0.99}, "accuracy", "better", 0.14),
        ({"energy": 1.5}, "energy", "worse", 0.5),
        ({"energy": 0.5}, "energy", "better", -0.5),
    ],
)
def test_each_figure_is_better_or_worse_in_its_own_direction(
    changes: dict[str, float], metric: Metric, verdict: str, change: float
) -> None:
    line = of(one(1, 2, **changes), metric, "run")
    assert line.verdict == verdict
    assert line.low < change < line.high
    assert line.change == pytest.approx(change, abs=0.15 * abs(change) + 0.02)
    assert line.b / line.a - 1 == pytest.approx(line.change) or line.b - line.a == pytest.approx(line.change)


def test_figures_are_those_of_the_windows() -> None:
    a, b = (noisy("run", np.random.default_rng(seed)) for seed in (1, 2))
    found = compare(records.record([a]), records.record([b]), USUAL)
    for run, which in ((a, "a"), (b, "b")):
        figure = {metric: getattr(of(found, metric, "run"), which) for metric in METRICS}
        images = sum(w.images for w in run.windows)
        assert figure["p50"] == pytest.approx(stats.gmean([w.latency_p50_s for w in run.windows]))
        assert figure["p99"] == pytest.approx(stats.gmean([w.latency_p99_s for w in run.windows]))
        assert figure["throughput"] == pytest.approx(images / 10)
        assert figure["answered"] == pytest.approx(images / sum(w.offered for w in run.windows))
        assert figure["accuracy"] == pytest.approx(sum(w.correct for w in run.windows) / images)
        assert figure["energy"] == pytest.approx(sum(w.energy_nj or 0 for w in run.windows) / images)


def test_a_tolerance_forgives_what_is_within_it() -> None:
    def verdict(tolerance: float) -> str:
        a, b = (noisy("run", np.random.default_rng(i), windows=60, slower=1 + 0.2 * i) for i in range(2))
        return of(compare(records.record([a]), records.record([b]), Tolerance(tolerance)), "p50", "run").verdict

    assert verdict(0.05) == "worse"
    assert verdict(0.2) == "worse, perhaps little"
    assert verdict(0.3) == "worse, perhaps little"


def test_the_tolerance_of_shares_is_in_points() -> None:
    a, b = (noisy("run", np.random.default_rng(i), windows=60, accuracy=x) for i, x in enumerate((0.85, 0.80)))
    both = records.record([a]), records.record([b])
    assert of(compare(*both, Tolerance(points=0.005)), "accuracy", "run").verdict == "worse"
    assert of(compare(*both, Tolerance(points=0.06)), "accuracy", "run").verdict == "worse, perhaps little"


def test_all_runs_together_tell_more_than_each_alone() -> None:
    draw = np.random.default_rng(4)
    found = compare(record(draw, 8, slower=1.0), record(draw, 8, slower=1.1), USUAL)
    widths = [line.high - line.low for line in found.lines if line.metric == "p50"]
    assert widths[0] < 0.6 * min(widths[1:])


def test_everything_answered_twice_is_no_proof_of_no_difference_and_no_alarm() -> None:
    a, b = (noisy("run", np.random.default_rng(i), answered=1.0) for i in range(2))
    line = of(compare(records.record([a]), records.record([b]), ANY), "answered", "run")
    assert (line.change, line.verdict) == (0, "noise")
    assert line.low < 0 < line.high


def test_the_same_pictures_again_do_not_make_accuracy_surer() -> None:
    a, b = (noisy("run", np.random.default_rng(i)) for i in range(2))
    few_a, few_b = (replace(run, parameters={**run.parameters, "pictures": 50}) for run in (a, b))
    many = of(compare(records.record([a]), records.record([b]), ANY), "accuracy", "run")
    same = of(compare(records.record([few_a]), records.record([few_b]), ANY), "accuracy", "run")
    assert same.high - same.low > 3 * (many.high - many.low)


def test_a_server_that_answers_nothing_any_more_is_worse() -> None:
    found = one(1, 2, answered=0.0)
    assert of(found, "answered", "run").verdict == "worse"
    assert found.status == 1


# --- What is not compared ----------------------------------------------------------------------------------------


def differences(a: Run, b: Run) -> Differences:
    return compare(records.record([a]), records.record([b]), USUAL)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"scenario": "closed"}, "scenario open against closed"),
        ({"model": "mnist"}, "model numbers against mnist"),
        ({"way": "4"}, "way 1 against 4"),
        ({"offered_rate": 200.0}, "offered rate 100.0 against 200.0"),
        ({"parameters": {"arrivals": "constant"}}, "arrivals poisson against constant"),
        ({"invalid": ("the client was busy",)}, "INVALID in b: the client was busy"),
    ],
)
def test_what_did_not_ask_the_same_is_not_compared(change: dict[str, object], reason: str) -> None:
    a = noisy("run", np.random.default_rng(1))
    found = differences(a, replace(a, **change))  # type: ignore[arg-type]
    assert not found.lines
    assert reason in found.unjudged[0].reason
    assert found.status == 2


def test_a_run_that_lasted_longer_or_drew_other_pictures_is_compared() -> None:
    a = noisy("run", np.random.default_rng(1))
    b = replace(a, parameters={**a.parameters, "seconds": 60, "seed": 2})
    assert differences(a, b).status == 0


def test_windows_of_another_length_are_not_compared() -> None:
    a = noisy("run", np.random.default_rng(1))
    b = replace(a, windows=tuple(replace(w, seconds=1.0) for w in a.windows))
    assert "window" in differences(a, b).unjudged[0].reason


def test_a_last_window_that_was_cut_short_is_left_out() -> None:
    a = noisy("run", np.random.default_rng(1))
    b = replace(a, windows=(*a.windows, replace(a.windows[-1], seconds=0.1, images=10**6)))
    assert windows(b) == list(a.windows)
    assert all(line.change == 0 for line in differences(a, b).lines)


def test_too_few_windows_are_no_judgement() -> None:
    a, b = (noisy("run", np.random.default_rng(i), windows=11) for i in range(2))
    found = differences(a, b)
    assert "not enough windows: 11 of 12" in found.unjudged[0].reason
    assert found.status == 2


@pytest.mark.parametrize(
    ("scenario", "peak", "status"),
    [("open", True, 2), ("find-peak", False, 0), ("ramp", False, 2), ("ramp", True, 0), ("overload", True, 0)],
)
def test_a_run_that_is_missing_is_not_passed_over_unless_a_search_chose_its_rate(
    scenario: str, peak: bool, status: int
) -> None:
    draw = np.random.default_rng(1)
    run, gone = noisy("run", draw), replace(noisy("gone", draw), scenario=scenario)
    peaks = [Peak("numbers", "4", "p99 ≤ 50 ms", 100.0, True, None, ())] if peak else []
    found = compare(records.record([run, gone], peaks=peaks), records.record([run]), USUAL)
    assert [(u.run, u.reason) for u in found.unjudged] == [("gone", "only in a")]
    assert found.status == status


def test_runs_of_one_name_are_matched_in_their_order() -> None:
    draw = np.random.default_rng(1)
    fast, slow = noisy("run", draw), noisy("run", draw, slower=3.0)
    same = compare(records.record([fast, slow]), records.record([fast, slow]), ANY)
    assert not alarms(same)
    assert len(same.lines) == 3 * len(METRICS)
    assert alarms(compare(records.record([fast, slow]), records.record([slow, fast]), ANY))


def test_another_machine_is_a_warning_and_another_energy_profile_ends_the_comparison_of_energy() -> None:
    a = record(np.random.default_rng(1))
    b = replace(
        a,
        machine=replace(a.machine, cpu="Another", cores=64, loopback=False),
        models=(replace(a.models[0], energy_profile="paper", engine="else"),),
        seed=7,
        interrupted=True,
    )
    found = compare(a, b, USUAL)
    said = " ".join(found.warnings)
    for what in ("Another", "64", "client's own machine", "paper", "else", "seed", "b was interrupted"):
        assert what in said
    assert {line.metric for line in found.lines} == set(METRICS) - {"energy"}
    assert not compare(a, a, USUAL).warnings


def test_peaks_are_shown_with_the_rates_between_which_they_lie_and_not_judged() -> None:
    def peaking(*attempts: Attempt) -> Record:
        held = max((a.rate for a in attempts if a.held), default=None)
        return replace(base, peaks=(Peak("numbers", "4", "p99 ≤ 50 ms", held, True, None, attempts),))

    base = record(np.random.default_rng(1))
    a = peaking(Attempt(100, True, "x"), Attempt(200, False, "y"), Attempt(150, True, "z"), Attempt(175, False, "w"))
    b = peaking(Attempt(50, False, "x"))
    (peak,) = compare(a, b, USUAL).peaks
    assert (peak.a, peak.a_below, peak.b, peak.b_below) == (150, 175, None, 50)
    assert compare(a, b, USUAL).status == 0
