"""A record as one HTML file: no scripts, and nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from loadtest.record import Attempt, Record, Run
from loadtest.report import reading, sections, sentences, words
from loadtest.report.markup import Markup, joined, tag
from loadtest.report.pareto import style

_QUANTILES = (0.5, 0.9, 0.99, 0.999)
_METHOD = (
    "Latency is counted from when a request was to be sent, so a server that keeps the client from sending is not "
    "forgiven what it keeps it from; service time, from when it was sent, stands beside it. Warm-ups are left out, but "
    "for the counts that are held against the server's own. p99.9 needs 10,000 answers; a p99 of fewer than 1,000 has "
    "a ≈ before it. Accuracy is of answered images with a label. Energy is an estimate for hypothetical hardware by "
    "the profile named, not this server's own consumption."
)


def write(record: Record, path: Path) -> None:
    """The page. Raises OSError."""
    path.write_text(html(record), encoding="utf-8")


def html(record: Record) -> str:
    """The same as text."""
    models = ", ".join(words.short(m.name) for m in record.models) or "a server"
    title = f"What accuracy costs: a load test of {models}"
    parts = (
        _short(record),
        sections.bought(record),
        sections.under_load(record),
        sections.percentiles(record),
        sections.chosen(record),
        sections.whereabouts(record),
        _runs(record),
        _counts(record),
        tag("section", tag("h2", "How it was measured"), tag("p", _METHOD)),
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Markup(style("chart.css") + style("page.css"))),
    )
    body = tag("body", _hatch(), tag("header", tag("h1", title), *_about(record)), tag("main", *parts))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _about(record: Record) -> Iterator[Markup]:
    """What was measured, where, by which command, and whether it is valid."""
    valid, said = sentences.validity(record)
    yield tag("p", said, class_="verdict" if valid else "verdict bad", role=None if valid else "alert")
    if record.interrupted:
        yield tag("p", "Interrupted: this is what there was by then.", class_="verdict bad")
    machine = record.machine
    where = f"{machine.cpu}, {words.several(machine.cores, 'core')}, {machine.system}, Python {machine.python}"
    server = "server on the same machine" if machine.loopback else "the client's machine; the server is on another"
    models = "; ".join(f"{m.name} {m.version}: {m.tgim} T-GIM, L = {m.levels}, {m.engine}" for m in record.models)
    facts = (
        ("Command", tag("code", record.command)),
        ("When", record.created),
        ("Machine", f"{where} ({server})"),
        ("Server", record.url),
        ("Models", models),
        ("Runs", f"{len(record.runs):,}, seed {record.seed}, version {record.version}"),
    )
    yield tag("dl", *(joined(tag("dt", name), tag("dd", value)) for name, value in facts))


def _short(record: Record) -> Markup | None:
    found = sentences.findings(record)
    return tag("section", tag("h2", "In short"), tag("ul", *(tag("li", each) for each in found))) if found else None


def _runs(record: Record) -> Markup:
    """Every run, INVALID ones included, and notes."""
    head = (
        "", "offered/s", "answered, %", "images/s", "p50, ms", "p90", "p99", "p99.9", "p99 from sending", "accuracy, %",
        "spikes", "energy, µJ",
    )  # fmt: skip
    rows = [_row(record, run) for run in record.runs]
    every = sections.grid(head, rows, "Every run; spikes and energy are of an image")
    notes = [tag("li", note) for note in sentences.notes(record)]
    bad = [tag("li", f"{run.name}: {reason}", class_="bad") for run in record.runs for reason in run.invalid]
    return tag(
        "section",
        tag("h2", "Every run"),
        tag("details", tag("summary", "Why runs are INVALID"), tag("ul", *bad), open="open" if len(bad) < 10 else None)
        if bad
        else None,
        tag("details", tag("summary", words.several(len(rows), "run")), every, open="open" if len(rows) < 30 else None),
        tag("h3", "Notes") if notes else None,
        tag("ul", *notes) if notes else None,
    )


def _row(record: Record, run: Run) -> tuple[str, ...]:
    share = run.accuracy
    energy = reading.energy_nj(run)
    return (
        f"INVALID: {run.name}" if run.invalid else run.name,
        words.plain(run.offered_rate), words.percent(run.answered_share), words.number(run.throughput),
        *reading.told_ms(run.latency, _QUANTILES), *reading.told_ms(run.service, (0.99,)),
        words.percent(share, 2), words.count(reading.spikes(run)),
        words.number(energy and energy / 1000),
    )  # fmt: skip


def _counts(record: Record) -> Markup:
    """Peaks and their steps, what was not answered, and both sides' counts."""
    parts: list[Markup] = []
    if record.peaks:
        rows = [
            (f"{p.model}, {words.way(p.way)}", p.objective, _peak(p.rate, p.bounded), *_ends(p.attempts))
            for p in record.peaks
        ]
        parts.append(tag("h3", "Peaks"))
        parts.append(
            sections.grid(("", "objective", "held at, requests/s", "not at", "rates tried"), rows, "Peaks", text=(1, 4))
        )
    missed = sections.outcome_rows(record.runs)
    parts.append(tag("h3", "Not answered"))
    parts.append(
        sections.grid(("", "requests", "of these"), missed, "Requests that were not answered", text=(2,))
        if missed
        else tag("p", "Every request of every run was answered.")
    )
    parts.append(tag("h3", "Client and server"))
    parts += _reconciled(record)
    chaos = [(run.name, kind, f"{count:,}") for run in record.runs for kind, count in run.chaos.items()]
    if chaos:
        parts.append(tag("h3", "Unruly clients"))
        parts.append(sections.grid(("", "what they did, and what came of it", "times"), chaos, "Unruly clients"))
    return tag("section", tag("h2", "Counts"), *parts)


def _reconciled(record: Record) -> Iterator[Markup]:
    counts = [(run, count) for run in record.runs for count in run.reconciled]
    if not counts:
        yield tag("p", "The server's own counts were not to be had, so nothing is held against them.")
        return
    wrong = [(run, count) for run, count in counts if count.difference]
    said = f"{words.several(len(counts), 'count')} of {words.several(len(record.runs), 'run')}, warm-ups included"
    if wrong:
        yield tag("p", f"{said}: {len(wrong)} differ.", class_="bad")
        rows = [(r.name, c.what, f"{c.client:,}", f"{c.server:,}", f"{c.difference:+,}") for r, c in wrong]
        yield sections.grid(("", "what", "client", "server", "difference"), rows, "Counts that differ")
    else:
        yield tag("p", f"{said}: every difference is 0.")
    totals = []
    for what in dict.fromkeys(count.what for _, count in counts):
        client, server = (sum(getattr(c, side) for _, c in counts if c.what == what) for side in ("client", "server"))
        totals.append((what, f"{client:,}", f"{server:,}", f"{server - client:+,}" if server != client else "0"))
    yield sections.grid(("", "client", "server", "difference"), totals, "Sums over all runs")


def _peak(rate: float | None, bounded: bool) -> str:
    return "none" if rate is None else words.plain(rate) if bounded else f"{words.plain(rate)} or more"


def _ends(attempts: tuple[Attempt, ...]) -> tuple[str, str]:
    failed = min((attempt.rate for attempt in attempts if not attempt.held), default=None)
    return words.plain(failed), ", ".join(f"{words.plain(a.rate)}{'' if a.held else ' (no)'}" for a in attempts)


def _hatch() -> Markup:
    """The pattern of what is no success, which all charts of the page share."""
    line = tag("path", d="M0,6L6,0", class_="hatch")
    pattern = tag("pattern", line, id="hatch", width=6, height=6, patternUnits="userSpaceOnUse")
    return tag("svg", tag("defs", pattern), width=0, height=0, aria_hidden="true", class_="shared")
