"""From a record to charts: which points, in which order, with which names.

A model's budgets are shades of one order, from the smallest; what the server chooses is always the last shade.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

from loadtest.record import Distribution, Record, Run
from loadtest.report import words
from loadtest.report.charts import SHADES, Band, Chart, Line, Point, Rule
from loadtest.report.reading import (
    NEARLY_ALL,
    Accuracy,
    Choice,
    Course,
    Curve,
    accuracy,
    quantiles_s,
    steps_of,
)
from loadtest.report.scales import Axis

CHOSEN = SHADES - 1
# Of a quantile axis: 1 / (1 − q), as such plots have it.
_QUANTILES = (1.0, 2.0, 4.0, 10.0, 100.0, 1000.0)


def tasks(choices: Sequence[Choice]) -> list[list[Choice]]:
    """Choices of models whose accuracies overlap, which can share an axis: models of one task, as a rule."""
    spans: list[tuple[float, float, list[Choice]]] = []
    for model in dict.fromkeys(c.model for c in choices):
        own = [c for c in choices if c.model == model and c.accuracy]
        shares = [c.accuracy.share for c in own if c.accuracy]
        if not shares:
            continue
        low, high, group = min(shares), max(shares), own
        for span in [s for s in spans if s[0] <= high and low <= s[1]]:
            spans.remove(span)
            low, high, group = min(low, span[0]), max(high, span[1]), [*span[2], *group]
        spans.append((low, high, group))
    return [group for _, _, group in spans]


def models(task: Sequence[Choice]) -> str:
    """Names of the models of a task."""
    return ", ".join(dict.fromkeys(words.short(c.model) for c in task))


def pareto(task: Sequence[Choice], objective: str) -> list[Chart]:
    """Accuracy against energy, against latency, and against the rate at which the objective held, if one is known."""
    charts = [
        _bought(task, Axis("energy of an image, µJ (estimate)", words.plain, log=True), "energy", "energy"),
        _bought(task, Axis("median latency at little load, ms", words.plain, log=True), "latency", "latency"),
    ]
    if any(c.peak_throughput for c in task):
        axis = Axis(f"images/s with {objective}", words.plain, log=True)
        charts.append(_bought(task, axis, "rate", "the rate it can take"))
    return [chart for chart in charts if not chart.empty]


def hockey_stick(curves: Sequence[Curve], model: str, objective: tuple[str, float] | None) -> Chart:
    """Images answered a second against p99, a curve for each way of asking."""
    lines = []
    for curve, shade in zip(curves, _shades([c.way for c in curves]), strict=True):
        points = [
            Point(run.throughput, 1000 * p99, _tooltip(run), hollow=run.answered_share < NEARLY_ALL)
            for run in curve.runs
            if (p99 := quantiles_s(run.latency, (0.99,))[0]) is not None
        ]
        name = words.way(curve.way) + (", closed loop" if curve.loop == "closed" else "")
        lines.append(Line(name, tuple(points), shade))
    rules = (Rule(1000 * objective[1], f"{objective[0]} ≤ {words.limit(objective[1])}"),) if objective else ()
    return Chart(
        f"{words.short(model)}: latency under load",
        "Each line is a way of asking: the further to the right it stays low, the more load it can take.",
        Axis("images answered a second", words.plain, zero=True),
        Axis("p99, ms", words.plain, log=True),
        tuple(lines),
        rules,
    )


def right_answers(record: Record, curves: Sequence[Curve], model: str) -> Chart:
    """The share of all requests that were answered, and right, against the rate at which they came."""
    lines = []
    for curve, shade in zip(curves, _shades([c.way for c in curves]), strict=True):
        points = [
            Point(run.offered_rate, 100 * share.share * run.answered_share, _tooltip(run))
            for run in curve.runs
            if run.offered_rate and (share := accuracy(record, run))
        ]
        lines.append(Line(words.way(curve.way), tuple(points), shade))
    return Chart(
        f"{words.short(model)}: right answers under load",
        "Where a line falls, requests are refused or late; where it bends, smaller budgets answer.",
        Axis("requests offered a second", words.plain, zero=True),
        Axis("answered and right, % of all requests", words.plain, ceiling=100),
        tuple(lines),
    )


def quantiles(found: Sequence[tuple[str, str, Distribution]], title: str) -> Chart:
    """Latency by quantile for each name and way, over the number of nines."""
    lines = []
    for (name, _, distribution), shade in zip(found, _shades([way for _, way, _ in found]), strict=True):
        points = tuple(Point(1 / (1 - share), 1000 * s) for share, s in steps_of(distribution) if s > 0)
        lines.append(Line(words.short(name, 48), points, shade, marked="ends"))
    return Chart(
        title,
        "How long the slowest tenth, hundredth and thousandth of the requests took at least.",
        Axis("share of the requests, %", _nines, log=True, ticks=_QUANTILES),
        Axis("latency, ms", words.plain, log=True),
        tuple(lines),
    )


def course(of: Course) -> list[Chart]:
    """Two charts over the same time: images by the budget that answered, and the latency."""
    windows = [(run, w) for run in of.runs for w in run.windows]
    edges = tuple(accumulate((w.seconds for _, w in windows), initial=0.0))
    budgets = sorted({t for _, w in windows for t in w.budgets})
    bands = [
        Band(f"T={t}", tuple(w.budgets.get(t, 0) / w.seconds for _, w in windows), min(i, CHOSEN))
        for i, t in enumerate(budgets)
    ]
    missed = tuple(max(0.0, w.offered - w.outcomes.get("answered", 0)) * _batch(run) / w.seconds for run, w in windows)
    if any(missed):
        bands.append(Band("not answered", missed, 0, hatched=True))
    time = Axis("time, s", words.plain, zero=True)
    name = f"{words.short(of.model)}, {words.way(of.way)}"
    middles = [(a + b) / 2 for a, b in pairwise(edges)]
    medians, tails = (
        [(x, s) for x, s in zip(middles, found, strict=True) if s is not None]
        for found in ([w.latency_p50_s for _, w in windows], [w.latency_p99_s for _, w in windows])
    )
    latencies = [
        Line(label, tuple(Point(x, 1000 * s) for x, s in found), shade, marked="none")
        for label, shade, found in (("p50", 0, medians), ("p99", 1, tails))
    ]
    late = (Rule(1000 * of.deadline_s, f"deadline {words.limit(of.deadline_s)}"),) if of.deadline_s else ()
    return [
        Chart(
            f"{name}: budgets",
            "Images a second by the budget that answered them, and those that were not answered, over time.",
            time,
            Axis("images/s", words.plain, zero=True),
            bands=tuple(bands),
            edges=edges,
        ),
        Chart(
            f"{name}: latency",
            "Latency of each window, its median and p99, over the same time.",
            Axis("time, s", words.plain, zero=True),
            Axis("latency, ms", words.plain, log=True),
            tuple(latencies),
            late,
        ),
    ]


def _bought(task: Sequence[Choice], axis: Axis, kind: str, against: str) -> Chart:
    lines: list[Line] = []
    short = len(chosen_ways(task)) == 1
    for index, model in enumerate(dict.fromkeys(c.model for c in task)):
        own = [c for c in task if c.model == model]
        fixed = [point for c in own if c.way.isdecimal() and (point := _offer(c, kind, short))]
        lines.append(Line(words.short(model), tuple(fixed), index % CHOSEN))
        chosen = [point for c in own if not c.way.isdecimal() and (point := _offer(c, kind, short))]
        if chosen:
            lines.append(Line("", tuple(chosen), index % CHOSEN, joined=False))
    said = "; ".join(point.tooltip for line in lines for point in line.points)
    title = f"Accuracy against {against}"
    return Chart(title, said, axis, Axis("accuracy, %", words.plain, ceiling=100), tuple(lines))


def chosen_ways(choices: Sequence[Choice]) -> list[str]:
    """How the server was asked to choose."""
    return [*dict.fromkeys(words.way(c.way) for c in choices if not c.way.isdecimal())]


def _offer(choice: Choice, kind: str, short: bool) -> Point | None:
    """The point of a choice; of what the server chooses it is hollow, and its label may be ``short``."""
    share: Accuracy | None = choice.accuracy
    x: float | None
    if kind == "energy":
        x, said = (None if choice.energy_nj is None else choice.energy_nj / 1000), words.energy(choice.energy_nj)
    elif kind == "latency":
        median = quantiles_s(choice.light.latency, (0.5,))[0]
        x, said = (None if median is None else 1000 * median), words.seconds(median)
    else:
        x, share = choice.peak_throughput, choice.peak_accuracy
        said = f"{words.number(x)} images/s"
    if not x or share is None:
        return None
    way = words.way(choice.way)
    low, high = (100 * share.low, 100 * share.high) if share.measured else (None, None)
    text = f"{words.short(choice.model)} {way}: {100 * share.share:.1f} % at {said}"
    label = way.split()[0] if short else way
    return Point(x, 100 * share.share, text, label, low, high, hollow=not choice.way.isdecimal())


def _tooltip(run: Run) -> str:
    p50, p99 = quantiles_s(run.latency, (0.5, 0.99))
    return (
        f"{run.name}: {words.number(run.throughput)} images/s, p50 {words.seconds(p50)}, p99 {words.seconds(p99)}, "
        f"{words.percent(run.answered_share)} % answered"
    )


def _shades(ways: Sequence[str]) -> list[int]:
    """Of ways in their order: fixed budgets from the first shade up, the others from the last down."""
    fixed = [way for way in dict.fromkeys(ways) if way.isdecimal()]
    chosen = [way for way in dict.fromkeys(ways) if not way.isdecimal()]
    up = {way: min(index, CHOSEN - 1) for index, way in enumerate(fixed)}
    return [up[way] if way in up else max(0, CHOSEN - chosen.index(way)) for way in ways]


def _batch(run: Run) -> float:
    """Images of a request, on the average; one where nothing was answered."""
    answered = run.outcomes.get("answered", 0)
    return run.images / answered if answered else 1.0


def _nines(times: float) -> str:
    return f"{100 * (1 - 1 / times):.6g}" if times > 1 else "0"
