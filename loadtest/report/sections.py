"""The parts of the page that show pictures, each with its figures behind; None where the record has nothing for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from loadtest.record import Distribution, Record, Run
from loadtest.report import drawing, figures, pareto, reading, sentences, words
from loadtest.report.charts import Chart
from loadtest.report.markup import Markup, joined, tag

# Of the bars of where the time goes: the client's own delay, the server's queue, its engine, and all the rest.
_PARTS = ("client behind schedule", "queue", "compute", "network, decoding and all else")
_MOST_COURSES = 8
# Of the bars; of more runs only the telling ones are shown at once.
_FEW = 30
_QUANTILES = (0.5, 0.9, 0.99, 0.999)


def bought(record: Record) -> Markup | None:
    """The overview: accuracy against what it costs."""
    choices = reading.choices(record)
    parts: list[Markup | None] = []
    for task in figures.tasks(choices):
        drawn = figures.pareto(task, pareto.objective(record))
        parts += [tag("h3", figures.models(task)), _gallery(drawn, _offers(task))]
    if not parts:
        return None
    said = " ".join(pareto.caveats(record, choices))
    caption = (
        "Up is more accurate, to the left is cheaper or faster, and in the last picture to the right is more load. "
        f"{said} A fixed budget's accuracy and energy are those of all its runs."
    )
    return _section("What accuracy costs", tag("p", caption, class_="note"), *parts)


def under_load(record: Record) -> Markup | None:
    """Throughput against latency, and what is right of it."""
    curves = [c for c in reading.curves(record) if len(c.runs) > 1]
    objective = reading.objective_s(record.peaks)
    drawn: list[Chart] = []
    for model in dict.fromkeys(c.model for c in curves):
        own = [c for c in curves if c.model == model]
        drawn.append(figures.hockey_stick(own, model, objective))
        drawn.append(figures.right_answers(record, [c for c in own if c.loop == "open"], model))
    drawn = [chart for chart in drawn if not chart.empty]
    if not drawn:
        return None
    caption = (
        "Each line is a way of asking. Latency stays low as far to the right as the server keeps up. Right answers are "
        "of all requests: where a line falls, requests are refused or late; where it bends, smaller budgets answer. "
        "Latency is from when a request was to be sent. Hollow: fewer than 99 % of the requests were answered."
    )
    table = load_table(record, [run for curve in curves for run in curve.runs], "Runs under load")
    return _section("Under load", tag("p", caption, class_="note"), _gallery(drawn, table))


def percentiles(record: Record) -> Markup | None:
    """How latency is spread: for each way at little load, and by budget where the server chose."""
    choices = reading.choices(record)
    drawn: list[Chart] = []
    rows: list[Sequence[str]] = []
    for model in dict.fromkeys(c.model for c in choices):
        own = [c for c in choices if c.model == model]
        found = [(f"{words.way(c.way)}: {_load(c.light)}", c.way, c.light.latency) for c in own]
        drawn.append(figures.quantiles(found, f"{words.short(model)}: {reading.little_load(own)}"))
        at_peak = [(f"{words.way(c.way)}: {_load(c.at_peak)}", c.way, c.at_peak.latency) for c in own if c.at_peak]
        if at_peak:
            drawn.append(figures.quantiles(at_peak, f"{words.short(model)}: at the peak"))
        rows += [_spread(f"{model}, {name}", latency) for name, _, latency in [*found, *at_peak]]
    for course in reading.courses(record)[:_MOST_COURSES]:
        run = course.runs[-1]
        by_budget = [(f"T={b.timesteps}", str(b.timesteps), b.latency) for b in run.budgets if b.images]
        name = f"{words.short(run.model)}, {words.way(run.way)}"
        drawn.append(figures.quantiles(by_budget, f"{name}: by budget"))
        rows += [_spread(f"{name}, {_load(run)}: {budget}", latency) for budget, _, latency in by_budget]
    drawn = [chart for chart in drawn if not chart.empty]
    if not drawn:
        return None
    caption = (
        "The share of the requests that took no longer. Each step to the right of 90 % is a tenth as many requests. "
        "A line ends where fewer than ten requests lie beyond. By budget: of the most load that was offered."
    )
    table = grid(("", "requests", "p50, ms", "p90", "p99", "p99.9"), rows, "Percentiles of latency")
    return _section("Percentiles", tag("p", caption, class_="note"), _gallery(drawn, table))


def chosen(record: Record) -> Markup | None:
    """What the server chose as the load grew."""
    courses = reading.courses(record)
    drawn = [c for course in courses[:_MOST_COURSES] for c in figures.course(course) if not c.empty]
    if not drawn:
        return None
    said = (
        "Images by the budget that answered them, and latency over the same time. Runs of a ramp follow one another, "
        "each at a higher rate; their warm-ups are left out."
    )
    if len(courses) > _MOST_COURSES:
        said += f" The first {_MOST_COURSES} of {len(courses)}."
    table = load_table(record, [run for course in courses for run in course.runs], "Runs in which the server chose")
    return _section("What the server chose", tag("p", said, class_="note"), _gallery(drawn, table))


def whereabouts(record: Record) -> Markup | None:
    """Of each run's mean latency, which part was spent where."""
    runs = [run for run in record.runs if run.latency.count and not run.invalid]
    if not runs:
        return None
    telling = runs if len(runs) <= _FEW else _telling(record)
    behind = (
        tag("details", tag("summary", f"All {len(runs)} runs"), _bars(runs, "The same of all runs"))
        if len(runs) > _FEW
        else None
    )
    keys = (tag("span", _key(i), name, class_="key") for i, name in enumerate(_PARTS))
    return _section("Where the time goes", tag("p", *keys, class_="note"), _bars(telling), behind)


def load_table(record: Record, runs: Iterable[Run], caption: str) -> Markup:
    """The runs of curves."""
    head = ("", "offered/s", "images/s", "answered, %", "p50, ms", "p99, ms", "accuracy, %", "queue, ms", "compute, ms")
    rows = []
    for run in runs:
        share = reading.accuracy(record, run)
        rows.append((
            run.name, words.plain(run.offered_rate), words.number(run.throughput), words.percent(run.answered_share),
            *reading.told_ms(run.latency, (0.5, 0.99)), words.percent(share.share if share else None, 2),
            words.ms(run.queue.mean_s), words.ms(run.compute.mean_s),
        ))  # fmt: skip
    return grid(head, rows, f"{caption}; queue and compute are means")


def grid(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str, text: Sequence[int] = ()) -> Markup:
    """A table that scrolls by itself where it is too wide; its first column and those of ``text`` are words."""

    def cell(kind: str, index: int, content: str, scope: str | None = None) -> Markup:
        return tag(kind, content, scope=scope, class_="text" if index in text else None)

    top = tag("thead", tag("tr", *(cell("th", i, name, "col") for i, name in enumerate(head))))
    body = [
        tag("tr", tag("th", row[0], scope="row"), *(cell("td", i, each) for i, each in enumerate(row[1:], 1)))
        for row in rows
    ]
    return _scrolling(tag("table", tag("caption", caption), top, tag("tbody", *body)), caption)


def _scrolling(table: Markup, name: str) -> Markup:
    """Reached by the keyboard too."""
    return tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=name)


def _section(title: str, *parts: Markup | None) -> Markup:
    return tag("section", tag("h2", title), *parts)


def _gallery(drawn: Sequence[Chart], table: Markup) -> Markup:
    """Charts beside each other, and their figures as a table."""
    shown = (tag("figure", drawing.draw(c), tag("figcaption", c.caption) if c.caption else None) for c in drawn)
    behind = tag("details", tag("summary", "The figures"), table)
    return joined(tag("div", *shown, class_="charts"), behind)


def _offers(task: Sequence[reading.Choice]) -> Markup:
    head = (
        "",
        "accuracy, %",
        "95 % interval",
        "energy, µJ",
        "p50, ms",
        "p99, ms",
        "peak, images/s",
        "accuracy there, %",
    )
    rows = []
    for c in task:
        share, there = c.accuracy, c.peak_accuracy
        interval = words.NOTHING
        if share:
            interval = f"{100 * share.low:.2f} – {100 * share.high:.2f}" if share.measured else "by the card"
        rows.append((
            f"{c.model}, {words.way(c.way)}", words.percent(share.share if share else None, 2), interval,
            words.number(c.energy_nj and c.energy_nj / 1000), *reading.told_ms(c.light.latency, (0.5, 0.99)),
            words.number(c.peak_throughput), words.percent(there.share if there else None, 2),
        ))  # fmt: skip
    return grid(head, rows, f"{figures.models(task)}; latencies: {reading.little_load(task)}")


def _spread(name: str, latency: Distribution) -> Sequence[str]:
    return (name, f"{latency.count:,}", *reading.told_ms(latency, _QUANTILES))


def _load(run: Run) -> str:
    rate = reading.top_rate(run)
    return f"{words.plain(rate)}/s" if rate else run.scenario.replace("-", " ")


def _telling(record: Record) -> list[Run]:
    """Of each way the run of the least load, the one at the peak, and the one of the most load."""
    found = []
    for choice in reading.choices(record):
        own = [c.runs[-1] for c in reading.curves(record) if (c.model, c.way) == (choice.model, choice.way)]
        found += [run for run in (choice.light, choice.at_peak, *own) if run and run not in found]
    return found


def _bars(runs: Iterable[Run], caption: str = "Mean latency by where it was spent") -> Markup:
    head = ("", "share of the mean", "mean, ms", "queue, ms", "compute, ms")
    rows = (tag("tr", tag("th", run.name, scope="row"), *_bar(run)) for run in runs)
    top = tag("thead", tag("tr", *(tag("th", text, scope="col") for text in head)))
    table = tag("table", tag("caption", caption), top, tag("tbody", *rows), class_="bars")
    return _scrolling(table, caption)


def _bar(run: Run) -> Iterable[Markup]:
    delay = max(0.0, run.latency.mean_s - run.service.mean_s)
    parts = (delay, run.queue.mean_s, run.compute.mean_s, reading.rest_s(run))
    total = sum(parts) or 1.0
    shares = [100 * part / total for part in parts]
    said = ", ".join(f"{name} {share:.0f} %" for name, share in zip(_PARTS, shares, strict=True))
    drawn = (_part(i, sum(shares[:i]), share) for i, share in enumerate(shares) if share > 0.05)
    yield tag("td", _strip(tag("title", said), *drawn, role="img", aria_label=said))
    yield from (tag("td", words.ms(s)) for s in (run.latency.mean_s, run.queue.mean_s, run.compute.mean_s))


def _key(index: int) -> Markup:
    return _strip(_part(index, 0, 100), aria_hidden="true")


def _strip(*parts: Markup, **attributes: str) -> Markup:
    return tag("svg", *parts, viewBox="0 0 100 10", preserveAspectRatio="none", class_="chart", **attributes)


def _part(index: int, start: float, share: float) -> Markup:
    """A piece of a bar: the client's delay black, the queue dark, compute in another colour, the rest pale."""
    kind = ("late", "c1 band d4", "c5 band d2", "c1 band d0")[index]
    return tag("rect", x=start, y=0, width=share, height=10, class_=kind)


def outcome_rows(runs: Iterable[Run]) -> list[Sequence[str]]:
    """Runs in which not everything was answered, and what became of the rest."""
    return [(run.name, f"{run.offered:,}", said) for run in runs if (said := sentences.outcomes(run))]
