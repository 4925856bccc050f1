from __future__ import annotations

from dataclasses import replace

from loadtest.record import Record
from loadtest.report import reading, sentences


def test_the_summary_has_the_peaks_with_their_accuracy_and_what_the_largest_budget_costs(suite: Record) -> None:
    found = sentences.findings(suite)
    one, four, _ = reading.choices(suite)
    assert one.at_peak
    assert four.at_peak
    assert one.accuracy
    assert four.accuracy
    assert f"T=1 answers {one.at_peak.throughput:.0f} images/s at {100 * one.accuracy.share:.1f} % accuracy" in found[0]
    assert f"T=4 answers {four.at_peak.throughput:.0f} images/s at {100 * four.accuracy.share:.1f} %" in found[0]
    assert f"{100 * (four.accuracy.share - one.accuracy.share):+.1f} points of accuracy" in found[0]
    assert f"{(four.energy_nj or 0) / (one.energy_nj or 1):.1f} times the energy" in found[0]
    assert found[0].startswith("numbers at p99 ≤ 50 ms, 99 % answered: ")


def test_the_overload_has_the_share_answered_and_the_budgets(suite: Record) -> None:
    last = suite.runs[-1]
    said = sentences.findings(suite)[-1]
    assert f"{100 * last.answered_share:.1f} % answered" in said
    assert f"{100 * last.correct / last.labelled:.1f} % of them right" in said
    assert "T=1" in said


def test_without_peaks_it_says_how_fast_each_is_at_little_load(suite: Record) -> None:
    said = sentences.findings(replace(suite, peaks=()))[0]
    assert "T=1 answers in 1." in said
    assert "ms (median; p99" in said


def test_latencies_are_only_compared_where_both_budgets_had_the_same_load(suite: Record) -> None:
    light = {choice.light.name for choice in reading.choices(suite)}
    assert "median latency" not in sentences.findings(suite)[0]
    alike = tuple(replace(r, scenario="in-turns") if r.name in light else r for r in suite.runs)
    assert "times the median latency (one request at a time" in sentences.findings(replace(suite, runs=alike))[0]


def test_a_peak_that_held_nowhere_or_everywhere_is_said_to(suite: Record) -> None:
    nowhere = replace(suite.peaks[0], rate=None, run=None)
    everywhere = replace(suite.peaks[1], bounded=False)
    said = sentences.findings(replace(suite, peaks=(nowhere, everywhere)))[0]
    assert "T=1 holds it at no rate that was tried" in said
    assert "T=4 answers at least " in said


def test_a_peak_whose_run_is_invalid_has_no_figures(suite: Record) -> None:
    bad = tuple(replace(r, invalid=("busy",)) if r.name == suite.peaks[0].run else r for r in suite.runs)
    assert "T=1 has no valid run at its peak" in sentences.findings(replace(suite, runs=bad))[0]


def test_a_note_of_several_runs_is_said_once(suite: Record) -> None:
    noted = tuple(replace(r, notes=("ended early",)) for r in suite.runs[:3])
    assert sentences.notes(replace(suite, runs=noted)) == [f"ended early ({suite.runs[0].name} and 2 more)"]


def test_an_invalid_run_makes_the_record_invalid_in_words(suite: Record) -> None:
    assert sentences.validity(suite)[0]
    bad = replace(suite, runs=(replace(suite.runs[0], invalid=("the client was busy",)), *suite.runs[1:]))
    valid, said = sentences.validity(bad)
    assert not valid
    assert said.startswith("INVALID")
    assert suite.runs[0].name in said
    assert "the client was busy" in said
    assert sentences.validity(replace(suite, runs=()))[1].startswith("INVALID")


def test_outcomes_and_budgets_are_listed(suite: Record) -> None:
    run = replace(suite.runs[0], outcomes={"answered": 5, "late": 1, "refused": 2000})
    assert sentences.outcomes(run) == "1 late, 2,000 refused"
    assert sentences.outcomes(replace(run, outcomes={"answered": 5})) == ""
    assert sentences.budgets(suite.runs[0]) == "T=1 100 %"


def test_accuracy_by_the_card_is_said_to_be(suite: Record) -> None:
    blank = tuple(replace(r, labelled=0, correct=0) for r in suite.runs)
    assert "% accuracy by its card" in sentences.findings(replace(suite, runs=blank))[0]


def test_a_record_without_answers_says_nothing(suite: Record) -> None:
    assert sentences.findings(replace(suite, runs=(), peaks=())) == []
