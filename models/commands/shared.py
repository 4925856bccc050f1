"""What several commands say and read in the same way."""

from __future__ import annotations

import fnmatch

import typer
from rich.table import Table

from models.bundle import Manifest
from models.commands.evaluate import accuracy_table


def whole_numbers(text: str) -> list[int]:
    """Numbers of time-steps, ascending: "4,1,2". Raises ValueError for anything else."""
    try:
        numbers = sorted({int(part) for part in text.split(",")})
    except ValueError:
        numbers = []
    if not numbers or numbers[0] < 1:
        raise ValueError(f"time-steps are whole numbers from 1, with commas between them, not {text!r}")
    return numbers


def numbers(text: str, option: str) -> list[int]:
    """Whole numbers of a command's option, ascending. Raises BadParameter for anything else."""
    try:
        return whole_numbers(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} are not whole numbers separated by commas", param_hint=option) from error


def chosen(name: str, patterns: list[str] | None) -> bool:
    """Whether a name matches one of the patterns, in which * stands for any part; all do where there are none."""
    return not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def measured_table(manifest: Manifest) -> Table:
    """The accuracies that a manifest claims, or where there were no labels its agreements."""
    if any(budget.accuracy for budget in manifest.budgets):
        return accuracy_table(manifest)
    table = Table("T", "served", "float32", "images", "spikes/image", title=f"{manifest.name}: agreement")
    for budget in manifest.budgets:
        if budget.agreement:
            agreement, spikes = budget.agreement, sum(budget.mean_spikes or ())
            rates = (f"{agreement.served:.2%}", f"{agreement.float32:.2%}")
            table.add_row(str(budget.timesteps), *rates, f"{agreement.samples:,}", f"{spikes:,.0f}")
    return table
