"""One case of a study of the kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from models.bench.harness import compare_measured
from models.bench.kernels.cases import Case
from models.bench.report import document
from models.machine import Machine

# One case's alternatives, by name: each call gives the seconds of one run.
Timers = Mapping[str, Callable[[], float]]


def measured(case: Case, timers: Timers, machine: Machine, *, rounds: int, seed: int) -> dict[str, Any]:
    """The alternatives in interleaved rounds, against the first, as `models.bench.report.document` has it."""
    comparison = compare_measured(
        timers, baseline=next(iter(timers)), title=case.name, rounds=rounds, seed=seed, machine=machine
    )
    return document(comparison)
