"""The picture of what accuracy costs, alone: one SVG file for a README, legible on light and dark pages alike."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from loadtest.record import Record
from loadtest.report import drawing, figures, reading, words
from loadtest.report.markup import Markup, joined, tag

_GAP = 16
_WIDTH = 304  # of a panel: three of them are about what a README shows in full size
_HEAD = 58


class NothingToDraw(Exception):
    """The record has neither an accuracy to draw nor a card's."""


def write(record: Record, path: Path) -> None:
    """A row for each task, of accuracy against energy, latency and rate. Raises NothingToDraw, OSError."""
    path.write_text(svg(record), encoding="utf-8")


def svg(record: Record) -> str:
    """The same as text. It brings its own ground, as what shows it need not tell it which page it is on."""
    choices = reading.choices(record)
    tasks = [(figures.models(task), figures.pareto(task, objective(record))) for task in figures.tasks(choices)]
    rows = [(name, row) for name, row in tasks if row]
    if not rows:
        raise NothingToDraw("no run has an accuracy, neither by labels nor by the model's card")
    parts: list[Markup] = []
    y = float(_HEAD)
    for name, row in rows:
        parts.append(tag("text", name, x=_GAP, y=y + 6, class_="heading", style="font-size:15px"))
        y += 18
        drawn = [drawing.inner(chart, _WIDTH) for chart in row]
        for column, (panel, _) in enumerate(drawn):
            parts.append(tag("g", panel, transform=f"translate({_GAP + column * (_WIDTH + _GAP)},{y:g})"))
        y += max(height for _, height in drawn) + _GAP
    width = _GAP + max(len(row) for _, row in rows) * (_WIDTH + _GAP)
    machine = record.machine
    lines = [f"{machine.cpu}, {words.several(machine.cores, 'core')}; {record.created}", *caveats(record, choices)]
    for line in lines:
        parts.append(tag("text", line, x=_GAP, y=y + 4, class_="soft"))
        y += 18
    title = "How much accuracy does how much energy, latency and load buy?"
    said = " ".join(f"{chart.title}: {chart.description}." for _, row in rows for chart in row)
    picture = tag(
        "svg",
        tag("title", title),
        tag("desc", said),
        tag("style", Markup(style("chart.css"))),
        tag("rect", width="100%", height="100%", fill="var(--card)"),
        tag("text", title, x=_GAP, y=30, class_="heading", style="font-size:17px"),
        joined(*parts),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:g} {y:g}",
        width=width,
        height=y,
        role="img",
        class_="chart",
    )
    return f"{picture}\n"


def objective(record: Record) -> str:
    """In short, for an axis."""
    found = reading.objective_s(record.peaks)
    return f"{found[0]} ≤ {words.limit(found[1])}" if found else "the objective met"


def caveats(record: Record, choices: list[reading.Choice]) -> list[str]:
    """What one has to know to read the picture."""
    shares = [c.accuracy for c in choices if c.accuracy]
    said = []
    if any(share.measured for share in shares):
        said.append("Bars: 95 % intervals of the accuracy.")
    if any(not share.measured for share in shares):
        said.append("Accuracy without a bar is the model card's: these runs had no labels.")
    if chosen := figures.chosen_ways(choices):
        said.append(f"Hollow: the server chose the budget ({', '.join(chosen)}).")
    return [" ".join(said), f"Energy: an estimate for hypothetical hardware ({reading.profiles(record)})."]


def style(name: str) -> str:
    """A style sheet of this package."""
    return files("loadtest.report").joinpath(name).read_text(encoding="utf-8")
