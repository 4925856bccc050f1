"""`lmht export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from models import bundle as bundles
from models.commands.evaluate import accuracy_table
from models.commands.progress import bar, console
from models.cpu import model_name
from models.data import load
from models.export.exporter import Measured, card_of, images_to_run
from models.export.exporter import export as run
from models.export.lowering import Precision
from models.tools import Tools
from models.training.network_file import FILE
from models.training.network_file import load as load_network


def export(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Folder of a finished training run.")],
    output: Annotated[
        Path | None, typer.Option(help="Folder of the bundle.", show_default="RECIPE/1 in the package's zoo")
    ] = None,
    precision: Annotated[Precision, typer.Option(help="Of the weights; spikes are exact in both.")] = "int8",
    root: Annotated[Path | None, typer.Option(help="Folder of the data, for data sets that are read from one.")] = None,
) -> None:
    """Make a bundle of a trained network, and measure on test images what its card says."""
    tools: Tools = context.obj
    try:
        recipe, network = load_network(folder / FILE)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    try:
        measured = Measured(
            recipe.dataset, load(recipe.dataset, "validation", root), load(recipe.dataset, "test", root)
        )
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--root") from error
    path = output or bundles.ZOO / recipe.name / "1"
    told = " --root DIR" if root else ""  # where it lies on this machine is nobody's business
    card = card_of(
        recipe, f"lmht train {recipe.name}{told} && lmht export runs/{recipe.name} --precision {precision}{told}"
    )
    with bar(f"measuring {recipe.name}", images_to_run(network, measured)) as advance:
        bundle = run(path, network, card, precision, measured, tools.open_engine, model_name(), advance)
    console.print(accuracy_table(bundle.manifest))
    console.print(f"{path} is a bundle of {sum(f.stat().st_size for f in path.iterdir()) / 1e6:.1f} MB")
