"""`lmht stress`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from models import bundle as bundles
from models.bundle import BundleError
from models.commands.progress import bar, console
from models.data import numbers
from models.evaluation import gap, served
from models.tools import Tools

_SEED = 77


def stress(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Folder of a bundle that reads two-digit numbers.")],
    samples: Annotated[int, typer.Option(min=100, help="Pictures of each kind.")] = 3000,
) -> None:
    """Accuracy of each budget on easier and harder pictures of held-out digits: what the time-steps are good for.

    The gap is that between the largest and the smallest budget, in points, with its standard error; both budgets see
    the same pictures.
    """
    tools: Tools = context.obj
    try:
        bundle = bundles.load(folder)
        if bundle.manifest.classes != numbers.CLASSES or bundle.manifest.input.shape != numbers.INPUT.shape:
            raise BundleError("reads no two-digit numbers at 28×48")
        engine = tools.open_engine(bundle)
    except BundleError as error:
        raise typer.BadParameter(f"{folder}: {error}") from error
    budgets = bundle.manifest.timesteps
    table = Table("pictures", *(f"T={t}, %" for t in budgets), "gap, points", title=bundle.manifest.name)
    digits, labels = numbers.digits_of("test")
    try:
        with bar(f"{bundle.manifest.name}", len(numbers.CONDITIONS) * len(budgets) * samples) as advance:
            for name, conditions in numbers.CONDITIONS.items():
                generator = np.random.default_rng(_SEED)
                images, shown = numbers.compose(digits, labels, samples, generator, conditions=conditions)
                right = [served(engine, images, t, advance).right(shown) for t in budgets]
                accuracies = [f"{100 * answers.mean():.1f}" for answers in right]
                table.add_row(name, *accuracies, gap(right[0], right[-1]))
    finally:
        engine.close()
    console.print(table)
