"""`lmht reparameterise`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, get_args

import torch
import typer

from models import bundle as bundles
from models import evaluation
from models.bundle import Bundle, BundleError, Manifest
from models.commands.progress import bar, console
from models.commands.shared import measured_table
from models.conversion import classes_of, reparameterised
from models.conversion import reparameterise as split
from models.cpu import model_name
from models.data import DATASETS, LabelledImages, Split, load
from models.export import measuring
from models.export.exporter import Card, assemble, export
from models.export.lowering import Precision
from models.export.measuring import Measured
from models.networks import Network
from models.tools import Tools

VERSION = "1"


def reparameterise(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Folder of a bundle, e.g. models/zoo/mnist/1.")],
    output: Annotated[Path, typer.Option(help="Repository folder; the bundle is written to NAME/1 in it.")],
    precision: Annotated[
        Precision | None,
        typer.Option(help="Of the weights; spikes are exact in both.", show_default="the bundle's own"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model.", show_default="the bundle's, -single")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the data, for data sets that are read from one.")] = None,
) -> None:
    """Make a bundle with single-threshold spikes of one with L levels: L·T time-steps for each of its budgets T.

    Its answers are the same wherever membranes stay between 0 and the threshold. It is measured on the data that the
    bundle was measured on, where those are here; networks with a max pool on spikes are refused.
    """
    try:
        bundle = bundles.load(folder)
        manifest = bundle.manifest
        original = evaluation.network_of(bundle)
        network = split(original)
    except (BundleError, ValueError) as error:
        raise typer.BadParameter(f"{folder}: {error}") from error
    data = _data(manifest, root)
    card = Card(
        name=name or f"{manifest.name}-single",
        description=f"{manifest.description} Reparameterised: {manifest.levels} time-steps of single-threshold spikes "
        f"for each one of {manifest.levels} levels.",
        classes=manifest.classes,
        input=manifest.input,
        architecture=manifest.architecture.name,
        parameters=reparameterised(manifest.architecture.parameters, network),
        made_by=f"lmht reparameterise {manifest.name}/{folder.resolve().name}",
    )
    path = output / card.name / VERSION
    precision = precision or manifest.budgets[-1].precision
    try:
        if data is None:
            made = _unmeasured(path, network, card, precision, manifest)
        else:
            made = _measured(path, network, card, precision, data, context.obj)
    except (BundleError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    if data is not None:
        console.print(measured_table(made.manifest))
        for timesteps, share in _agreement(original, network, data.test).items():
            console.print(
                f"T = {timesteps} and {manifest.levels * timesteps}: the same class on {share:.2%} of "
                f"{len(data.test):,} images (float32)",
                highlight=False,
            )
    budgets = ", ".join(map(str, made.manifest.timesteps))
    console.print(f"{path}: {manifest.architecture.name}, T = {budgets}, L = 1, {precision}", highlight=False)
    console.print(f"serve it with: lmht serve --models {output}", highlight=False)


def _data(manifest: Manifest, root: Path | None) -> Measured | None:
    """The images that the bundle was measured on; None, with a word about it, where they are not here."""
    last = manifest.budgets[-1].accuracy
    if last is None or last.dataset not in DATASETS or last.split not in get_args(Split):
        console.print("the bundle was not measured on a data set that is known here, so neither is this one")
        return None
    if DATASETS[last.dataset].in_folder and root is None:
        console.print(f"not measured: {last.dataset} is read from a folder; say which with --root")
        return None
    try:
        return Measured(last.dataset, load(last.dataset, "validation", root), load(last.dataset, "test", root))
    except (ValueError, ImportError) as error:
        raise typer.BadParameter(str(error), param_hint="--root") from error


def _measured(path: Path, network: Network, card: Card, precision: Precision, data: Measured, tools: Tools) -> Bundle:
    with bar(f"measuring {card.name}", measuring.images_to_run(network, data)) as advance:
        return export(path, network, card, precision, data, tools.open_engine, model_name(), advance)


def _unmeasured(path: Path, network: Network, card: Card, precision: Precision, original: Manifest) -> Bundle:
    """With the temperatures of the original budgets, whose logits these equal."""
    made = assemble(path, network, card, precision)
    temperatures = {original.levels * budget.timesteps: budget.temperature for budget in original.budgets}
    budgets = tuple(
        budget.model_copy(update={"temperature": temperatures[budget.timesteps]}) for budget in made.manifest.budgets
    )
    manifest = made.manifest.model_copy(update={"budgets": budgets})
    return bundles.write(path, manifest, {name: made.read(name) for name in manifest.files})


def _agreement(original: Network, single: Network, data: LabelledImages) -> Mapping[int, float]:
    """By the original's T: on how many of the images both networks give the same class, 0 to 1."""
    levels, images = original.spiking.levels, torch.from_numpy(data.images)
    return {
        t: float((classes_of(original, t, images) == classes_of(single, levels * t, images)).double().mean())
        for t in original.spiking.budgets
    }
