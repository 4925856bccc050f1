"""`lmht export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from models import bundle as bundles
from models.bundle import BundleError
from models.commands.evaluate import accuracy_table
from models.commands.progress import bar, console
from models.cpu import model_name
from models.data import load
from models.evaluation import network_of
from models.export.exporter import Card, card_of
from models.export.exporter import export as run
from models.export.lowering import Precision
from models.export.measuring import Measured, images_to_run
from models.networks import Network
from models.tools import Tools
from models.training.network_file import FILE
from models.training.network_file import load as load_network


def export(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Argument(help="Folder of a finished training run, or of a bundle that is to be made anew.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of the bundle.", show_default="RECIPE/1 in the package's zoo; a bundle's own"),
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(help="Of the weights; spikes are exact in both.", show_default="int8; a bundle's own"),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the data, for data sets that are read from one.")] = None,
) -> None:
    """Make a bundle of a trained network, and measure on test images what its card says.

    A bundle keeps its weights and what it says of itself; its graphs and figures become this version's.
    """
    tools: Tools = context.obj
    told = " --root DIR" if root else ""  # where it lies on this machine is nobody's business
    try:
        if (folder / bundles.MANIFEST).is_file():
            source = _of_bundle(folder, output, precision)
        else:
            source = _of_run(folder, output, precision or "int8", told)
    except (BundleError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    try:
        data = source.dataset
        measured = Measured(data, load(data, "validation", root), load(data, "test", root))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--root") from error
    network, card, path = source.network, source.card, source.path
    with bar(f"measuring {card.name}", images_to_run(network, measured)) as advance:
        bundle = run(path, network, card, source.precision, measured, tools.open_engine, model_name(), advance)
    console.print(accuracy_table(bundle.manifest))
    console.print(f"{path} is a bundle of {sum(f.stat().st_size for f in path.iterdir()) / 1e6:.1f} MB")


@dataclass(frozen=True)
class _Source:
    """What becomes a bundle, and where; ``dataset`` is what it is measured on."""

    network: Network
    card: Card
    dataset: str
    precision: Precision
    path: Path


def _of_run(folder: Path, output: Path | None, precision: Precision, told: str) -> _Source:
    recipe, network = load_network(folder / FILE)
    made_by = f"lmht train {recipe.name}{told} && lmht export runs/{recipe.name} --precision {precision}{told}"
    path = output or bundles.ZOO / recipe.name / "1"
    return _Source(network, card_of(recipe, made_by), recipe.dataset, precision, path)


def _of_bundle(folder: Path, output: Path | None, precision: Precision | None) -> _Source:
    bundle = bundles.load(folder)
    manifest = bundle.manifest
    last = manifest.budgets[-1]
    if last.accuracy is None:
        raise ValueError(f"{folder}: the bundle does not say which data set it was measured on")
    card = Card(
        name=manifest.name,
        description=manifest.description,
        classes=manifest.classes,
        input=manifest.input,
        architecture=manifest.architecture.name,
        parameters=dict(manifest.architecture.parameters),
        made_by=manifest.made_by,
    )
    return _Source(network_of(bundle), card, last.accuracy.dataset, precision or last.precision, output or folder)
