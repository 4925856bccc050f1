"""A comparison as a table on the terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from models.bench.harness import Comparison, Measurement, Ratio
from models.machine import Machine

if TYPE_CHECKING:
    from rich.console import Console

_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def to_json(comparison: Comparison) -> str:
    """The comparison as a JSON document.

    Its schema, ``lmht-bench/1``; durations are seconds for one unit of work::

        {"schema": "lmht-bench/1", "title": str, "baseline": name,
         "settings": {"rounds": int, "warmup": int, "seed": int, "confidence": float, "resamples": int,
                      "stopped_by": "rounds" | "time limit"},
         "results": [{"name": str, "repeats": int, "median_s": float, "quartiles_s": [float, float],
                      "ratio": {"value": float, "low": float, "high": float},    median ÷ the baseline's median
                      "durations_s": [float, …]}, …],                            one a round, in the rounds' order
         "machine": {"cpu": str, "cpu_flags": [str, …], "cores": int, "memory_bytes": int | null, "system": str,
                     "python": str, "libraries": {name: version}, "threads": {name: str}, "devices": [str, …],
                     "date": str}}
    """
    return json.dumps(document(comparison), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def document(comparison: Comparison) -> dict[str, Any]:
    """What `to_json` writes, as plain data."""
    return {
        "schema": "lmht-bench/1",
        "title": comparison.title,
        "baseline": comparison.baseline,
        "settings": {
            name: getattr(comparison, name)
            for name in ("rounds", "warmup", "seed", "confidence", "resamples", "stopped_by")
        },
        "results": [
            {
                "name": measurement.name,
                "repeats": measurement.repeats,
                "median_s": measurement.median_s,
                "quartiles_s": list(measurement.quartiles_s),
                "ratio": asdict(measurement.ratio),
                "durations_s": list(measurement.durations_s),
            }
            for measurement in comparison.measurements
        ],
        "machine": asdict(comparison.machine),
    }


def to_markdown(comparison: Comparison) -> str:
    """The comparison as a Markdown table, with the machine below it."""
    header, rows = _columns(comparison), [_cells(comparison, m) for m in comparison.measurements]
    lines = [f"### {comparison.title}", ""] if comparison.title else []
    lines += table(header, rows)
    lines += ["", method(comparison), ""]
    lines += [f"* {line}" for line in machine_lines(comparison.machine)]
    return "\n".join(lines) + "\n"


def print_table(comparison: Comparison, console: Console | None = None) -> None:
    """Print the comparison, and the machine below it, to ``console``; to standard output unless given."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(comparison.title) if comparison.title else None, title_justify="left")
    for index, name in enumerate(_columns(comparison)):
        table.add_column(Text(name), justify="right" if index else "left")
    for measurement in comparison.measurements:
        table.add_row(*map(Text, _cells(comparison, measurement)))
    console = console or Console()
    console.print(table)
    for line in (method(comparison), *machine_lines(comparison.machine)):
        console.print(Text(line, style="dim"))


@contextmanager
def progress(title: str = "measuring") -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error; gives what `compare` takes as ``on_round``."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, wanted: bar.update(task, completed=done, total=wanted)


def machine_lines(machine: Machine) -> list[str]:
    """The machine in a few lines of text."""
    memory = "" if machine.memory_bytes is None else f", {machine.memory_bytes / 2**30:.1f} GiB"
    lines = [f"{machine.cpu}, {machine.cores:g} cores{memory}"]
    lines += machine.devices
    if machine.cpu_flags:
        lines.append(" ".join(machine.cpu_flags))
    lines.append(", ".join([machine.system, machine.python, *(f"{k} {v}" for k, v in machine.libraries.items())]))
    if machine.threads:
        lines.append("threads: " + ", ".join(f"{name} {count}" for name, count in machine.threads.items()))
    lines.append(machine.date)
    return lines


def duration(seconds: float) -> str:
    """Seconds with three significant digits, in the unit that suits them."""
    scale, unit = _unit(seconds)
    return f"{digits(seconds / scale)} {unit}"


def _unit(seconds: float) -> tuple[float, str]:
    # Rounded first: 999.9 µs is 1.00 ms.
    rounded = float(f"{seconds:.2e}")
    return next(((scale, unit) for scale, unit in _UNITS if rounded >= scale), _UNITS[-1])


def digits(value: float) -> str:
    """Three significant digits, without an exponent."""
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(f'{mantissa}e{exponent}'):.{max(0, 2 - int(exponent))}f}"


def _columns(comparison: Comparison) -> list[str]:
    return ["alternative", "median", "quartiles", f"time ÷ {comparison.baseline}", "times as fast"]


def _cells(comparison: Comparison, measurement: Measurement) -> list[str]:
    low, high = measurement.quartiles_s
    scale, unit = _unit(high)
    spread = f"{digits(low / scale)} – {digits(high / scale)} {unit}"
    cells = [measurement.name, duration(measurement.median_s), spread]
    if measurement.name == comparison.baseline:
        return [*cells, "1", "1"]
    return [*cells, interval(measurement.ratio), interval(measurement.ratio.inverse)]


def interval(ratio: Ratio) -> str:
    """A ratio and, in brackets, its interval."""
    return f"{digits(ratio.value)} [{digits(ratio.low)}, {digits(ratio.high)}]"


def method(comparison: Comparison) -> str:
    """How the figures were taken, in one line."""
    stopped = ", stopped by the time limit" if comparison.stopped_by == "time limit" else ""
    return (
        f"{comparison.rounds} interleaved rounds{stopped}; ratios of medians with {comparison.confidence * 100:g} % "
        f"bootstrap intervals; seed {comparison.seed}"
    )


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a Markdown table; all columns but the first are numbers."""
    return [_row(header), _row(["---", *["---:"] * (len(header) - 1)]), *(_row(cells) for cells in rows)]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
