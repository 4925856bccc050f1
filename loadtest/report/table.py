"""A record on the terminal: within 100 columns, and readable without colours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from rich import box
from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from loadtest.record import Peak, Reconciled, Record, Run
from loadtest.report import reading, sentences, words

_WIDTH = 100
_REASONS = 5  # that are given; runs of the tables are marked, all of them
_QUANTILES = (0.5, 0.9, 0.99, 0.999)


def show(record: Record, console: Console) -> None:
    """All of it: every run, the budgets chosen, peaks, what was not answered, both sides' counts, and what it says."""
    width = min(_WIDTH, console.width)
    for part in (
        *_invalid(record),
        *_runs(record.runs),
        *_chosen(record.runs),
        *_peaks(record.peaks),
        *_missed(record.runs),
        *_reconciled(record.runs),
        *_notes(record),
        *_findings(record),
        *_invalid(record),
    ):
        console.print(part, width=width)


def _runs(runs: Iterable[Run]) -> Iterator[RenderableType]:
    """A table for each way of asking. Without names that repeat what its title says, a long list stays readable."""
    listed = list(runs)
    for (model, way), group in groupby(listed, key=lambda run: (run.model, run.way)):
        own = list(group)
        many = any(run.latency.count >= 10_000 for run in own)
        heads = [
            "",
            "asked/s",
            "answ. %",
            "img/s",
            "p50",
            "p90",
            "p99",
            *(["p99.9"] if many else []),
            "p99 svc",
            "right %",
        ]
        title = Text(f"{words.clean(model)}, {words.way(way)}", style="bold")
        table = _table(*heads, "spikes", "µJ", title=title)
        for run in own:
            shown = _row(run, many)
            table.add_row(*shown, style="bold red" if run.invalid else "")
        yield table
    if listed:
        yield Text(
            "Latencies in ms from when a request was to be sent; p99 svc from when it was; ≈ of fewer than 1,000 "
            "answers. Spikes and energy (an estimate) of an image.",
            style="dim",
        )


def _row(run: Run, many: bool) -> list[Text]:
    latencies = reading.told_ms(run.latency, _QUANTILES)
    energy = reading.energy_nj(run)
    name = words.short(run.name, 60)
    cells = (
        f"INVALID {name}" if run.invalid else name,
        words.plain(run.offered_rate),
        words.percent(run.answered_share),
        words.number(run.throughput),
        *latencies[: 4 if many else 3],
        *reading.told_ms(run.service, (0.99,)),
        words.percent(run.accuracy, 2),
        words.count(reading.spikes(run)),
        words.number(energy and energy / 1000),
    )
    return [Text(cell) for cell in cells]


def _chosen(runs: Iterable[Run]) -> Iterator[RenderableType]:
    several = [run for run in runs if len(run.budgets) > 1]
    if several:
        table = _table("", "budgets that answered", title=Text("Budgets", style="bold"), left=True)
        for run in several:
            table.add_row(Text(words.short(run.name, 60)), Text(sentences.budgets(run)))
        yield table


def _peaks(peaks: Iterable[Peak]) -> Iterator[RenderableType]:
    table = _table("", "objective", "held at, /s", "not at", "rates tried", title=Text("Peaks", style="bold"))
    for peak in peaks:
        failed = min((a.rate for a in peak.attempts if not a.held), default=None)
        held = "none" if peak.rate is None else words.plain(peak.rate) + ("" if peak.bounded else " or more")
        name = f"{words.short(peak.model)}, {words.way(peak.way)}"
        cells = (name, words.clean(peak.objective), held, words.plain(failed), f"{len(peak.attempts)}")
        table.add_row(*map(Text, cells))
    if table.rows:
        yield table


def _missed(runs: Iterable[Run]) -> Iterator[RenderableType]:
    table = _table("", "requests", "not answered", title=Text("Not answered", style="bold"), left=True)
    for run in runs:
        if said := sentences.outcomes(run):
            table.add_row(Text(words.short(run.name, 60)), Text(f"{run.offered:,}"), Text(said))
    yield table if table.rows else Text("Every request was answered.")
    for run in runs:
        if run.chaos:
            did = ", ".join(f"{words.clean(kind)} {count:,}" for kind, count in run.chaos.items())
            yield Text(f"Unruly clients of {words.short(run.name, 60)}: {did}")


def _reconciled(runs: Iterable[Run]) -> Iterator[RenderableType]:
    """Sums over all runs, and each count that differs: differences of two runs may cancel out."""
    found = [(run, count) for run in runs for count in run.reconciled]
    if not found:
        yield Text("Client and server were not held against each other: the server's counts were not to be had.")
        return
    title = Text("Client and server, warm-ups included", style="bold")
    table = _table("", "client", "server", "difference", "runs that differ", title=title)
    for what in dict.fromkeys(count.what for _, count in found):
        own = [count for _, count in found if count.what == what]
        total = Reconciled(words.clean(what), sum(c.client for c in own), sum(c.server for c in own))
        differing = sum(bool(count.difference) for count in own)
        style = "bold red" if differing else ""
        ends = (f"{total.client:,}", f"{total.server:,}", f"{total.difference:+,}" if total.difference else "0")
        table.add_row(*map(Text, (total.what, *ends, f"{differing} of {len(own)}")), style=style)
    yield table
    for run, count in found:
        if count.difference:
            said = f"client {count.client:,}, server {count.server:,}, difference {count.difference:+,}"
            yield Text(f"{words.clean(run.name)}: {words.clean(count.what)}: {said}", style="bold red")


def _notes(record: Record) -> Iterator[RenderableType]:
    if record.interrupted:
        yield Text("Interrupted: this is what there was by then.", style="bold")
    for note in sentences.notes(record):
        yield Text(f"Note: {note}")


def _findings(record: Record) -> Iterator[RenderableType]:
    for finding in sentences.findings(record):
        yield Text(f"• {finding}")


def _invalid(record: Record) -> Iterator[RenderableType]:
    """Said before everything else, and again where the eye is in the end."""
    valid, _ = sentences.validity(record)
    if valid:
        return
    bad = [run for run in record.runs if run.invalid]
    lines = [f"{words.clean(run.name)}: {words.clean('; '.join(run.invalid))}" for run in bad[:_REASONS]]
    if len(bad) > _REASONS:
        lines.append(f"and {len(bad) - _REASONS} more of {words.several(len(record.runs), 'run')}")
    said = "\n".join(lines) or "there is no run"
    title = Text(f"INVALID: {len(bad)} of {words.several(len(record.runs), 'run')}, whose figures mean nothing")
    yield Panel(Text(said), title=title, style="bold red", box=box.HEAVY)


def _table(*heads: str, title: Text, left: bool = False) -> Table:
    """The first column is as wide as is left, the others never wrap."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, header_style="")
    table.padding = (0, 0, 0, 1)
    for index, head in enumerate(heads):
        if not index or (left and index == len(heads) - 1):
            table.add_column(Text(head), overflow="fold")
        else:
            table.add_column(Text(head), justify="right", no_wrap=True)
    return table
