"""A study as a table on the terminal and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.table import Table

from service.simulation.study import AUTO, BLIND, BOUND, Point, Study, capacity, ways


def table(study: Study) -> Table:
    """One row for each load and way."""
    found = Table(*_HEADINGS, title=_title(study))
    for point in study.points:
        for row in _rows(point):
            found.add_row(*row)
        found.add_section()
    return found


def markdown(study: Study) -> str:
    """The study in words, a table, and what can be read from it."""
    costs, machine = study.costs, study.costs.machine
    budgets = ", ".join(map(str, costs.budgets))
    taken = "; ".join(
        f"T = {t}: {costs.of(t, 1) * 1000:.3g} ms for one image, {costs.capacity(t):.4g} images/s"
        for t in costs.budgets
    )
    right = ", ".join(f"{100 * study.accuracies[t]:.2f} % at T = {t}" for t in costs.budgets)
    lines = [
        "# The scheduler under load, simulated",
        "",
        "Poisson arrivals of single images at the scheduler that serves, on a simulated clock (`lmht simulate`).",
        "",
        f"* Costs: {costs.network}, measured ({taken}); a single run varies by {100 * costs.variation:.1f} %.",
        f"* Machine: {machine.get('cpu')}, {machine.get('cores')} cores, {machine.get('threads')}.",
        f"* Accuracy: that of `{study.model}`, {right}.",
        *(
            [
                f"* HTTP takes {study.http_s * 1000:g} ms a request, on the engine's core. `{BLIND}` is a scheduler "
                "that is not told so."
            ]
            if study.http_s
            else []
        ),
        f"* Deadline: {study.deadline:g} times one image at the largest budget, {study.deadline_s * 1000:.4g} ms.",
        f"* {study.requests:,} requests a run, seed {study.seed}; the first tenth is not counted.",
        f"* Load 1 is {study.capacity:.4g} images/s, what the engine does at T = {costs.budgets[-1]}.",
        f"* `T = …` always asks for the same budget; `auto` leaves the choice among {budgets} to the scheduler. "
        "`oracle` is a bound, not a scheduler: the most right answers a second that these costs allow, with every "
        "batch full and nobody waiting.",
        "",
        "Right: answered in time and right, of all requests. Accuracy, latencies: of the answers in time.",
        "",
        *_as_markdown(study),
        "",
        *(f"* {finding}" for finding in findings(study)),
        "",
    ]
    return "\n".join(lines)


def findings(study: Study) -> Iterator[str]:
    """What the study was made to find out, in sentences."""
    budgets = study.costs.budgets
    smallest = capacity(study.costs, budgets[0], study.http_s) / study.capacity
    within = [point for point in study.points if point.load <= smallest]
    worst = min(within, key=lambda point: point.outcomes[AUTO].in_time, default=None)
    if worst:
        yield (
            f"Up to the capacity of T = {budgets[0]}, a load of {smallest:.2f}, `auto` answers at least "
            f"{100 * worst.outcomes[AUTO].in_time:.1f} % in time (at a load of {worst.load:g})."
        )
    top = study.points[-1]
    fixed = top.outcomes[ways(budgets)[len(budgets) - 1].name]
    if fixed.in_time:
        yield (
            f"At a load of {top.load:g} it answers {top.outcomes[AUTO].in_time / fixed.in_time:.2f} times as many in "
            f"time as T = {budgets[-1]}, with {100 * top.outcomes[AUTO].accuracy:.2f} % of them right."
        )


_HEADINGS = ("load", "budget", "in time", "late", "refused", "accuracy", "right", "p50", "p99", "budgets used")


def _title(study: Study) -> str:
    return f"{study.costs.network}, deadline {study.deadline_s * 1000:.4g} ms; latencies in deadlines"


def _rows(point: Point) -> Iterator[list[str]]:
    for name, outcome in point.outcomes.items():
        total = sum(outcome.budgets.values())
        used = ", ".join(f"{t}: {100 * n / total:.0f} %" for t, n in sorted(outcome.budgets.items()))
        yield [
            f"{point.load:g}",
            name,
            *(f"{100 * share:.1f} %" for share in (outcome.in_time, outcome.late, outcome.refused)),
            _percent(outcome.accuracy),
            _percent(outcome.accuracy * outcome.in_time),
            *(_number(seconds / outcome.deadline_s) for seconds in (outcome.p50_s, outcome.p99_s)),
            used,
        ]
    bound = point.bound
    right = _percent(bound.accuracy * bound.in_time)
    yield [
        f"{point.load:g}",
        BOUND,
        f"{100 * bound.in_time:.1f} %",
        "",
        f"{100 * (1 - bound.in_time):.1f} %",
        _percent(bound.accuracy),
        right,
        "",
        "",
        "",
    ]


def _as_markdown(study: Study) -> Iterator[str]:
    yield "| " + " | ".join(_HEADINGS) + " |"
    yield "|---" * len(_HEADINGS) + "|"
    for point in study.points:
        for row in _rows(point):
            yield "| " + " | ".join(row) + " |"


def _percent(share: float) -> str:
    return "" if math.isnan(share) else f"{100 * share:.2f} %"


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"
