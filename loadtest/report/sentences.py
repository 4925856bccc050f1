"""What a record says, in words: the first thing that a page has, and the last that a terminal shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from loadtest.record import OUTCOMES, Record, Run
from loadtest.report import words
from loadtest.report.reading import (
    LITTLE,
    Accuracy,
    Choice,
    accuracy,
    choices,
    courses,
    little_load,
    quantiles_s,
    top_rate,
)


def validity(record: Record) -> tuple[bool, str]:
    """Whether the figures mean what they say, and why not."""
    bad = [run for run in record.runs if run.invalid]
    if not record.runs:
        return False, "INVALID: there is no run."
    if bad:
        reasons = "; ".join(f"{words.clean(run.name)}: {words.clean(', '.join(run.invalid))}" for run in bad[:3])
        more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
        share = f"INVALID: in {len(bad)} of {words.several(len(record.runs), 'run')} the client fell behind"
        return False, f"{share}, so their figures mean nothing, and no picture shows them. {reasons}{more}."
    return True, "Valid: the client kept up in every run."


def findings(record: Record) -> list[str]:
    """The figures that the test was made for, a sentence for each model and then for each overload."""
    found = choices(record)
    models = dict.fromkeys(choice.model for choice in found)
    sentences = [_bought([c for c in found if c.model == model]) for model in models]
    return [*sentences, *_overload(record)]


def outcomes(run: Run) -> str:
    """What became of the requests that were not answered; empty where all were."""
    return ", ".join(f"{run.outcomes[o]:,} {o}" for o in OUTCOMES[1:] if run.outcomes.get(o))


def budgets(run: Run) -> str:
    """Of the images, by which budget answered."""
    total = sum(b.images for b in run.budgets)
    return ", ".join(f"T={b.timesteps} {words.percent(b.images / total, 0)} %" for b in run.budgets if b.images)


def notes(record: Record) -> list[str]:
    """What a reader should know of runs beside their figures; what is said of several is said once."""
    runs: dict[str, list[str]] = {}
    for run in record.runs:
        for note in run.notes:
            runs.setdefault(words.clean(note), []).append(words.clean(run.name))
    return [
        f"{note} ({names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''})" for note, names in runs.items()
    ]


def _bought(ways: Sequence[Choice]) -> str:
    """Of one model: its smallest budget, its largest, and what the server chose; the pictures have the others."""
    fixed = [c for c in ways if c.way.isdecimal()]
    telling = [*fixed[:1], *fixed[1:][-1:], *(c for c in ways if not c.way.isdecimal())]
    peaks = [c for c in telling if c.peak]
    said = [_at_peak(c) for c in peaks] or [_light(c) for c in telling]
    at = words.clean(peaks[0].peak.objective) if peaks and peaks[0].peak else "the least load that was tried"
    return f"{words.clean(ways[0].model)} at {at}: {'; '.join(said)}.{_against(fixed)}"


def _at_peak(choice: Choice) -> str:
    peak, way = choice.peak, words.way(choice.way)
    assert peak is not None
    if peak.rate is None:
        return f"{way} holds it at no rate that was tried"
    if choice.peak_throughput is None:
        return f"{way} has no valid run at its peak"
    least = "" if peak.bounded else "at least "
    share = choice.peak_accuracy or choice.accuracy
    return f"{way} answers {least}{words.number(choice.peak_throughput)} images/s{_right(share)}"


def _light(choice: Choice) -> str:
    p50, p99 = quantiles_s(choice.light.latency, (0.5, 0.99))
    way, right = words.way(choice.way), _right(choice.accuracy)
    return f"{way} answers in {words.seconds(p50)} (median; p99 {words.seconds(p99)}){right}"


def _right(share: Accuracy | None) -> str:
    return f" at {words.percent(share.share)} % accuracy{'' if share.measured else ' by its card'}" if share else ""


def _against(ways: Sequence[Choice]) -> str:
    """What the largest budget buys and costs against the smallest."""
    fixed = [c for c in ways if c.accuracy]
    if len(fixed) < 2:
        return ""
    small, large = fixed[0], fixed[-1]
    assert small.accuracy is not None
    assert large.accuracy is not None
    points = 100 * (large.accuracy.share - small.accuracy.share)
    prices = []
    if small.energy_nj and large.energy_nj:
        prices.append(f"{words.number(large.energy_nj / small.energy_nj, 2)} times the energy")
    if small.peak_throughput and large.peak_throughput:
        prices.append(f"{words.number(large.peak_throughput / small.peak_throughput, 2)} times the rate")
    medians = [quantiles_s(c.light.latency, (0.5,))[0] for c in (small, large)]
    at = little_load((small, large))
    # At rates of their own, the one that is asked less often would look quicker than it is.
    if medians[0] and medians[1] and at != LITTLE:
        prices.append(f"{words.number(medians[1] / medians[0], 2)} times the median latency ({at})")
    ends = f"{words.way(large.way)} against {words.way(small.way)}"
    return f" {ends}: {', '.join([f'{points:+.1f} points of accuracy', *prices])}."


def _overload(record: Record) -> Iterator[str]:
    for course in courses(record):
        run = course.runs[-1]
        share = accuracy(record, run)
        right = f", {words.percent(share.share)} % of them right" if share else ""
        at = f"{'up to ' if run.scenario == 'overload' else ''}{words.plain(top_rate(run))} requests/s"
        yield (
            f"{words.clean(run.model)}, {words.way(run.way)}, at {at}: {words.percent(run.answered_share)} % "
            f"answered{right} ({budgets(run)})."
        )
