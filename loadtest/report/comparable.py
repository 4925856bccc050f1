"""Which runs of two records may be compared: those of one name that asked the same in the same way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from loadtest.record import Record, Run, Window
from loadtest.report.estimates import LEAST_WINDOWS

# Parameters in which runs of the same load may differ: how long it was, and which pictures were drawn.
_FREE = frozenset({"seed", "seconds", "duration_s", "window_s", "warmup_s", "count", "limit", "pictures", "processes"})


@dataclass(frozen=True)
class Unjudged:
    """What could not be compared and why; ``search`` where a search chose its rate, which need not recur."""

    run: str
    reason: str
    search: bool


def windows(run: Run) -> list[Window]:
    """All but a last one that was cut short."""
    longest = max((w.seconds for w in run.windows), default=0.0)
    return [w for w in run.windows if w.seconds > 0.99 * longest]


def matched(a: Record, b: Record) -> tuple[list[tuple[str, Run, Run]], list[Unjudged]]:
    """Runs by name, and where several have one by their order."""
    first, second = _named(a), _named(b)
    both = [(key[0], run, second[key]) for key, run in first.items() if key in second]
    missing = [
        Unjudged(key[0], f"only in {where}", searched(run, record))
        for where, record, here, there in (("a", a, first, second), ("b", b, second, first))
        for key, run in here.items()
        if key not in there
    ]
    return both, missing


def _named(record: Record) -> dict[tuple[str, int], Run]:
    seen: Counter[str] = Counter()
    named = {}
    for run in record.runs:
        named[run.name, seen[run.name]] = run
        seen[run.name] += 1
    return named


def searched(run: Run, record: Record) -> bool:
    """Whether the run's rate is that of a search for a peak, or was chosen by the peak that it found."""
    found = any(peak.model == run.model for peak in record.peaks)
    return run.scenario == "find-peak" or (found and run.scenario in ("ramp", "overload"))


def obstacle(a: Run, b: Run) -> str:
    """Why two runs of a name are not compared; empty where they are."""
    for which, run in (("a", a), ("b", b)):
        if run.invalid:
            return f"INVALID in {which}: {'; '.join(run.invalid)}"
    if a.scenario == b.scenario == "find-peak" and a.offered_rate != b.offered_rate:
        return _other("rate", a.offered_rate, b.offered_rate)
    for what in ("scenario", "model", "way", "offered_rate"):
        if getattr(a, what) != getattr(b, what):
            return _other(what.replace("_", " "), getattr(a, what), getattr(b, what))
    for key in sorted({*a.parameters, *b.parameters} - _FREE):
        if a.parameters.get(key) != b.parameters.get(key):
            return _other(key, a.parameters.get(key), b.parameters.get(key))
    lengths = [max((w.seconds for w in run.windows), default=0.0) for run in (a, b)]
    # A longer window's p99 is another figure.
    return _other("window, s", *lengths) if abs(lengths[0] - lengths[1]) > 0.01 * max(lengths) else ""


def _other(what: str, a: object, b: object) -> str:
    return f"not comparable: {what} {a} against {b}"


def scarcity(a: Run, b: Run) -> str:
    """Why two runs have no figure that both know."""
    least = min(len(windows(run)) for run in (a, b))
    return f"not enough windows: {least} of {LEAST_WINDOWS} at least" if least < LEAST_WINDOWS else "nothing answered"


def warnings(a: Record, b: Record) -> Iterator[str]:
    """What differs between two records beside what was asked."""
    for what, before, after in (
        ("processor", a.machine.cpu, b.machine.cpu),
        ("number of cores", str(a.machine.cores), str(b.machine.cores)),
        ("system", a.machine.system, b.machine.system),
        ("Python", a.machine.python, b.machine.python),
        ("seed, so other pictures at other times", str(a.seed), str(b.seed)),
    ):
        if before != after:
            yield f"another {what}: {before} against {after}"
    if a.machine.loopback != b.machine.loopback:
        yield "one server was on the client's own machine, the other was not"
    engines = {m.name: m for m in a.models}
    for model in b.models:
        known = engines.get(model.name)
        if known is None:
            continue
        for what, old, new in (
            ("engine", known.engine, model.engine),
            ("version", known.version, model.version),
            ("energy profile, so energy is not compared", known.energy_profile, model.energy_profile),
        ):
            if old != new:
                yield f"{model.name}: another {what}: {old} against {new}"
    for which, record in (("a", a), ("b", b)):
        if record.interrupted:
            yield f"{which} was interrupted"
