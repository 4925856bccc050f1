"""`lmht import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from models.bundle import InputSpec, Picture
from models.commands.progress import console
from models.export.exporter import Card, assemble
from models.export.lowering import Precision
from models.importing import Architecture, import_checkpoint, read

VERSION = "1"
# Normalised values lie within a few units of 0; a caller's mistake (0..255) is found all the same.
NORMALISED = (-100.0, 100.0)


def import_(
    checkpoint: Annotated[Path, typer.Argument(help="File that the LM-HT authors' code wrote.", exists=True)],
    output: Annotated[Path, typer.Option(help="Repository folder; the bundle is written to NAME/1 in it.")],
    arch: Annotated[Architecture, typer.Option(help="Which network it is.")],
    levels: Annotated[int, typer.Option(min=1, help="Firing levels L, which the file does not hold.")],
    timesteps: Annotated[int | None, typer.Option(min=1, help="T, where the file does not hold it (L = 1).")] = None,
    precision: Annotated[Precision, typer.Option(help="Of the weights; spikes are exact in both.")] = "float32",
    name: Annotated[str | None, typer.Option(help="Name of the model.", show_default="ARCH")] = None,
    size: Annotated[int, typer.Option(min=8, max=1024, help="Height and width of its pictures, in pixels.")] = 32,
    mean: Annotated[list[float] | None, typer.Option(help="Of the pictures (0..1), once per channel.")] = None,
    std: Annotated[list[float] | None, typer.Option(help="Of the pictures (0..1), once per channel.")] = None,
) -> None:
    """Make a bundle of a checkpoint in the layout of LM-HT's authors; nothing in the file is run.

    Thresholds and weights are the file's own. Without --mean and --std the bundle expects input that is normalised
    already, as `instances`; pictures are then scaled to 0..1 only. Its accuracy is unknown, and its card says so.
    """
    try:
        imported = import_checkpoint(
            read(checkpoint), architecture=arch, levels=levels, timesteps=timesteps, mean=mean, std=std
        )
        parameters = imported.parameters
        card = Card(
            name=name or arch,
            description=f"{arch}, imported from {checkpoint.name}.",
            classes=[str(index) for index in range(parameters["classes"])],
            input=InputSpec(
                channels=parameters["channels"],
                height=size,
                width=size,
                value_range=(0.0, 1.0) if mean and std else NORMALISED,
                mean=tuple(parameters["mean"]),
                std=tuple(parameters["std"]),
                picture=Picture(),
            ),
            architecture=imported.architecture,
            parameters=parameters,
            made_by=f"lmht import {checkpoint.name} --arch {arch} --levels {levels} --precision {precision}",
        )
        path = output / card.name / VERSION
        bundle = assemble(path, imported.network, card, precision)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    for note in imported.notes:
        console.print(f"note: {note}")
    budgets = ", ".join(map(str, bundle.manifest.timesteps))
    console.print(f"{path}: {arch}, T = {budgets}, L = {levels}, {len(card.classes)} classes, {precision}")
    console.print(f"serve it with: lmht serve --models {output}")
