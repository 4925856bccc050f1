"""Two records against each other: `lmht loadtest compare a.json b.json`. What is compared how: `differences`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadtest.record import Record, RecordError, read
from loadtest.report import words
from loadtest.report.differences import RISK, SHARES, Differences, Line, Metric, PeakLine, Tolerance, compare

_NAMES: dict[Metric, str] = {
    "p50": "p50, ms",
    "p99": "p99, ms",
    "throughput": "images/s",
    "answered": "answered, %",
    "accuracy": "accuracy, %",
    "energy": "energy, µJ",
}
# What is said of a figure that is better, and of one that is worse.
_SAID: dict[Metric, tuple[str, str]] = {
    "p50": ("faster", "slower"),
    "p99": ("faster", "slower"),
    "throughput": ("faster", "slower"),
    "answered": ("more answered", "fewer answered"),
    "accuracy": ("more accurate", "less accurate"),
    "energy": ("less energy", "more energy"),
}
# Of the columns: the figure's name, a, b, b against a, both ends of its interval, and what is said of it.
_WIDTHS = (13, 7, 7, 9, 10, 10, 32)
_UNUSABLE = 2


def command(
    a: Annotated[Path, typer.Argument(help="Record to compare with, as JSON.", show_default=False)],
    b: Annotated[Path, typer.Argument(help="Record that is judged.", show_default=False)],
    tolerance: Annotated[
        str, typer.Option(help="How much slower, or of more energy, is still good enough.", metavar="PERCENT")
    ] = "5%",
    points: Annotated[
        float, typer.Option(min=0, help="How many percentage points of accuracy, or of answers, may be lost.")
    ] = 0.5,
    everything: Annotated[bool, typer.Option("--all", help="Also figures whose difference may be noise.")] = False,
) -> None:
    """Compare two records of a load test: what is faster, what is slower, and what noise could be.

    Runs are matched by name. Ends with 0 where nothing is worse beyond the tolerance, with 1 where something surely is,
    and with 2 where not everything could be judged.
    """
    allowed = Tolerance(_share(tolerance), points / 100)
    try:
        first, second = read(a), read(b)
    except (RecordError, OSError) as error:
        Console(stderr=True).print(Text(f"lmht loadtest compare: {words.clean(str(error))}"), soft_wrap=True)
        raise typer.Exit(_UNUSABLE) from error
    found = compare(first, second, allowed)
    show(found, (first, second), Console(), everything=everything)
    raise typer.Exit(found.status)


def show(found: Differences, records: tuple[Record, Record], console: Console, *, everything: bool = False) -> None:
    """On the terminal: warnings, the figures that differ (or ``everything``), what was not judged, and the verdict."""
    for which, record in zip("ab", records, strict=True):
        machine = f"{record.machine.cpu}, {record.machine.cores} cores"
        _say(console, f"{which}: {record.created}, {record.command}; {machine}")
    for warning in found.warnings:
        _say(console, f"warning: {warning}", "bold")
    shown = [line for line in found.lines if everything or line.verdict != "noise" or not line.run]
    for part in _tables(shown):
        console.print(part)
    if found.peaks:
        console.print(_peaks(found.peaks))
        _say(console, "A peak lies from the rate that held up to the one that did not. It has no interval: not judged.")
    for unjudged in found.unjudged:
        if not unjudged.search:
            _say(console, f"not judged: {unjudged.run}: {unjudged.reason}", "bold red")
    if searched := sum(each.search for each in found.unjudged):
        _say(console, f"not judged: {words.several(searched, 'run')} at rates that a search chose, and not the same")
    for line in _notes(found, len(found.lines) - len(shown)):
        _say(console, line)
    _say(console, verdict(found), "bold red" if found.status else "bold")


def verdict(found: Differences) -> str:
    """In a sentence."""
    figures = words.several(len(found.lines), "figure")
    missing = sum(not each.search for each in found.unjudged)
    unjudged = f"; {words.several(missing, 'run')} could not be judged" if missing else ""
    if not found.lines:
        return "UNUSABLE: there is nothing that could be judged."
    better = sum(line.verdict == "better" for line in found.lines)
    also = f", {better} better" if better else ""
    if found.worse:
        said = sorted({_SAID[line.metric][1] for line in found.worse})
        return f"WORSE ({', '.join(said)}): {len(found.worse)} of {figures} beyond the tolerance{also}{unjudged}."
    if missing:
        return f"INCOMPLETE: none of {figures} is worse beyond the tolerance{also}{unjudged}."
    if better:
        said = sorted({_SAID[line.metric][0] for line in found.lines if line.verdict == "better"})
        return f"BETTER ({', '.join(said)}): {better} of {figures} beyond the tolerance, none worse."
    return f"NO DIFFERENCE beyond the tolerance that could be told from noise, in {figures}."


def _notes(found: Differences, left_out: int) -> Iterator[str]:
    if left_out:
        yield f"{words.several(left_out, 'figure')} whose difference may be noise left out (--all shows them)."
    if found.lines:
        yield (
            "a, b; b against a [its interval]; noise: no difference that could be told from it. Figures are over "
            "windows, intervals from a bootstrap of blocks of neighbouring ones, by Student's t, and so wide that all "
            f"{len(found.lines)} hold together with {100 * (1 - RISK):g} %. Tolerance: "
            f"{100 * found.tolerance.relative:g} %, {100 * found.tolerance.points:g} points of a share."
        )
        unknown = [_NAMES[m] for m in _NAMES if all(line.metric != m for line in found.lines)]
        if unknown:
            yield f"In no run of both: {'; '.join(unknown)}."


def _tables(lines: list[Line]) -> Iterator[Text | Table]:
    """A name and a table for each run, their columns of one width."""
    for run, found in groupby(lines, key=lambda line: line.run):
        yield Text(words.clean(run) or "All runs together", style="bold")
        table = Table(box=None, padding=(0, 1, 0, 1), show_header=False)
        for width, justify in zip(_WIDTHS, ("left", *["right"] * 5, "left"), strict=True):
            table.add_column(width=width, justify="right" if justify == "right" else "left", no_wrap=True)
        for line in found:
            style = {"worse": "bold red", "better": "green"}.get(line.verdict, "")
            table.add_row(
                _NAMES[line.metric],
                *(_figure(value, line.metric) for value in (line.a, line.b)),
                _change(line.change, line.metric),
                Text(f"[{_change(line.low, line.metric)},"),
                Text(f"{_change(line.high, line.metric)}]"),
                Text(_in_words(line), style=style),
            )
        yield table


def _peaks(peaks: tuple[PeakLine, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), header_style="")
    for index, heading in enumerate(("peak, requests/s", "objective", "a", "b", "b ÷ a")):
        table.add_column(Text(heading), justify="right" if index > 1 else "left", overflow="fold")
    for peak in peaks:
        ratio = words.number(peak.b / peak.a) if peak.a and peak.b else words.NOTHING
        ends = ((peak.a, peak.a_below), (peak.b, peak.b_below))
        cells = (f"{words.number(held)} – {words.number(failed)}" for held, failed in ends)
        name = f"{words.clean(peak.model)} {words.way(peak.way)}"
        table.add_row(*map(Text, (name, words.clean(peak.objective), *cells, ratio)))
    return table


def _figure(value: float, metric: Metric) -> str:
    if metric in SHARES:
        return words.percent(value, 2)
    return words.number(value * {"p50": 1e3, "p99": 1e3, "energy": 1e-3}.get(metric, 1))


def _change(change: float, metric: Metric) -> str:
    return f"{100 * change:+.2f}" if metric in SHARES else f"{100 * change:+.1f} %"


def _in_words(line: Line) -> str:
    if line.verdict == "noise":
        return "noise"
    better, worse = _SAID[line.metric]
    said = better if line.verdict.startswith("better") else worse
    return said if line.verdict in ("better", "worse") else f"{said}, perhaps tolerable"


def _share(text: str) -> float:
    try:
        percent = float(text.strip().removesuffix("%"))
    except ValueError:
        percent = -1.0
    if not 0 <= percent < 100:
        raise typer.BadParameter(f"'{text}' is no percentage from 0 to 100, such as 5%", param_hint="--tolerance")
    return percent / 100


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(words.clean(text), style=style), soft_wrap=False)
