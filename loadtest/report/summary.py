"""A record as CSV: a line per run, units in the names of the columns, nothing where something is not known."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

from loadtest.record import OUTCOMES, Distribution, Outcome, Record, Run
from loadtest.report import reading, words

Value = str | int | float | None

_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


def write(record: Record, path: Path) -> None:
    """The file. A text that a spreadsheet would take for a formula gets an apostrophe. Raises OSError."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns := _columns())
        for run in record.runs:
            writer.writerow([_cell(column(run)) for column in columns.values()])


def _columns() -> dict[str, Callable[[Run], Value]]:
    return {
        "run": lambda run: run.name,
        "scenario": lambda run: run.scenario,
        "model": lambda run: run.model,
        "asked_budget": lambda run: run.way,
        "valid": lambda run: "no" if run.invalid else "yes",
        "offered_requests_per_s": lambda run: run.offered_rate,
        "measured_s": lambda run: run.seconds,
        "warmup_s": lambda run: run.warmup_s,
        "client_processes": lambda run: run.processes,
        "requests": lambda run: run.offered,
        **{f"{outcome}_requests": _outcome(outcome) for outcome in OUTCOMES},
        "answered_share": lambda run: run.answered_share,
        "images": lambda run: run.images,
        "images_per_s": lambda run: run.throughput,
        **{f"latency_{name}_ms": _quantile("latency", share) for name, share in _QUANTILES.items()},
        "latency_mean_ms": lambda run: _mean_ms(run.latency),
        **{f"service_{name}_ms": _quantile("service", share) for name, share in _QUANTILES.items()},
        "dispatch_delay_p99_ms": _quantile("dispatch", 0.99),
        "queue_mean_ms": lambda run: _mean_ms(run.queue),
        "compute_mean_ms": lambda run: _mean_ms(run.compute),
        "labelled_images": lambda run: run.labelled,
        "accuracy_share": lambda run: run.accuracy,
        "spikes_per_image": reading.spikes,
        "energy_per_image_nj": reading.energy_nj,
        "images_by_budget": lambda run: " ".join(f"{b.timesteps}:{b.images}" for b in run.budgets),
        "unreconciled_counts": lambda run: sum(bool(count.difference) for count in run.reconciled),
        "invalid_because": lambda run: "; ".join(run.invalid),
    }


def _outcome(outcome: Outcome) -> Callable[[Run], Value]:
    return lambda run: run.outcomes.get(outcome, 0)


def _quantile(which: str, share: float) -> Callable[[Run], Value]:
    def of(run: Run) -> Value:
        distribution: Distribution = getattr(run, which)
        found = reading.quantiles_s(distribution, (share,))[0]
        return None if found is None else 1000 * found

    return of


def _mean_ms(distribution: Distribution) -> Value:
    return 1000 * distribution.mean_s if distribution.count else None


def _cell(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        text = words.clean(value)
        return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
    return f"{value:.6g}" if isinstance(value, float) else str(value)
