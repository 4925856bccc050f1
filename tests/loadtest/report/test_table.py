"""The terminal's tables: within their width, without colours, and with nothing hidden."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from loadtest.record import Reconciled, Record
from loadtest.report import table
from tests.loadtest.report import records


def shown(record: Record, width: int = 100, *, colours: bool = False) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=colours, color_system="standard" if colours else None)
    table.show(record, console)
    return file.getvalue()


def row(output: str, name: str) -> list[str]:
    return next(line for line in output.splitlines() if line.strip().startswith(name))[len(name) + 1 :].split()


@pytest.mark.parametrize("width", [80, 100, 160])
def test_it_fits_its_width(suite: Record, width: int) -> None:
    lines = shown(suite, width).splitlines()
    assert max(cell_len(line) for line in lines) <= min(width, 100)


def test_a_run_has_its_figures(suite: Record) -> None:
    run = replace(suite.runs[-4], name="T = 4 at 433/s")
    cells = row(shown(replace(suite, runs=(run,))), run.name)
    latencies = [1000 * (run.latency.quantile_s(q) or 0) for q in (0.5, 0.9, 0.99)]
    sent = 1000 * (run.service.quantile_s(0.99) or 0)
    assert run.latency.count < 1000
    assert [cell.startswith("≈") for cell in cells[3:7]] == [False, False, True, True]
    values = [float(cell.replace(",", "").lstrip("≈").rstrip("k")) for cell in cells]
    expected = [
        run.offered_rate, 100 * run.answered_share, run.throughput, *latencies, sent,
        100 * run.correct / run.labelled, run.spikes / run.images / 1000, run.energy_nj / run.images / 1000,
    ]  # fmt: skip
    assert values == pytest.approx(expected, rel=0.006)


def test_p999_has_a_column_only_where_there_are_enough_samples(suite: Record) -> None:
    assert "p99.9" not in shown(suite)
    many = records.run(records.MNIST, 1, 1500.0, seconds=8)
    output = shown(records.record([many], [records.MNIST]))
    assert "p99.9" in output
    assert max(cell_len(line) for line in output.splitlines()) <= 100


def test_nobody_can_overlook_what_is_invalid(suite: Record) -> None:
    reason = "requests were sent 80 ms late"
    bad = replace(suite, runs=(*suite.runs[:-1], replace(suite.runs[-1], invalid=(reason,))))
    output = shown(bad)
    lines = output.splitlines()
    assert "INVALID" in lines[0]
    assert any("INVALID" in line for line in lines[-4:])
    assert output.count(reason) == 2
    assert f"INVALID {suite.runs[-1].name}"[:20] in output
    assert "INVALID" not in shown(suite)


def test_of_many_invalid_runs_each_is_marked_and_some_reasons_are_given(suite: Record) -> None:
    bad = tuple(replace(r, name=f"run {i:02}", invalid=(f"reason {i:02}",)) for i, r in enumerate(suite.runs))
    output = shown(replace(suite, runs=bad))
    assert f"and {len(bad) - 5} more of {len(bad)} runs" in output
    assert all(f"INVALID run {i:02}" in output for i in range(len(bad)))


def test_differences_of_client_and_server_are_always_printed_and_do_not_cancel_out(suite: Record) -> None:
    assert "0 of " in shown(suite)
    one, two = (
        replace(run, reconciled=(Reconciled("requests answered 200", 10, 10 + by),))
        for run, by in zip(suite.runs, (3, -3), strict=False)
    )
    output = shown(replace(suite, runs=(one, two)))
    assert row(output, "requests answered 200") == ["20", "20", "0", "2", "of", "2"]
    for run, by in ((one, "+3"), (two, "-3")):
        line = next(x for x in output.splitlines() if x.startswith(f"{run.name}: requests"))
        assert line.endswith(f"difference {by}") or by in output


def test_a_difference_is_red(suite: Record) -> None:
    good = replace(suite, runs=(replace(suite.runs[0], reconciled=(Reconciled("images", 1, 1),)),))
    bad = replace(suite, runs=(replace(suite.runs[0], reconciled=(Reconciled("images", 1, 2),)),))
    assert "\x1b[1;31m" not in shown(good, colours=True)
    assert "\x1b[1;31m" in shown(bad, colours=True)


def test_without_the_servers_counts_it_says_so(suite: Record) -> None:
    bare = replace(suite, runs=tuple(replace(r, reconciled=()) for r in suite.runs))
    assert "not held against each other" in shown(bare)


def test_budgets_peaks_outcomes_notes_and_chaos_are_told(suite: Record) -> None:
    noted = replace(suite.runs[0], notes=("a warm-up of its own",), chaos={"disconnected": 7})
    again = replace(suite.runs[1], notes=("a warm-up of its own",))
    output = shown(replace(suite, runs=(noted, again, *suite.runs[2:]), interrupted=True))
    refused = suite.runs[-1].outcomes["refused"]
    assert f"{refused:,} refused" in output
    assert output.count("a warm-up of its own") == 1
    assert "and 1 more" in output
    assert "disconnected 7" in output
    assert "Interrupted" in output
    assert row(output, "numbers, T=1 ")[-1] == str(len(suite.peaks[0].attempts))
    assert "T=1 " in next(
        line for line in output.splitlines() if line.strip().startswith(suite.runs[-1].name) and "%" in line
    )


def test_names_can_neither_colour_the_terminal_nor_steer_it(suite: Record) -> None:
    name = "[red]x[/red]\x1b[2J"
    hostile = replace(suite.runs[0], name=name, model=name, way=name, notes=(name,), invalid=(name,))
    output = shown(
        replace(suite, runs=(hostile,), peaks=(replace(suite.peaks[0], model=name, way=name, objective=name),))
    )
    assert "[red]x[/red]" in output
    assert "\x1b" not in output


def test_a_record_without_runs_is_shown() -> None:
    assert "there is no run" in shown(records.record([]))
