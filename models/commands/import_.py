"""`lmht import`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from models.bundle import Bundle, BundleError, InputSpec, Picture
from models.commands.evaluate import FOLDER_SPLIT
from models.commands.progress import bar, console
from models.commands.shared import measured_table, whole_numbers
from models.cpu import model_name
from models.data import LabelledImages, pictures
from models.data.pictures import PictureFolder
from models.export import measuring
from models.export.exporter import Card, assemble, export
from models.export.lowering import Precision
from models.export.measuring import Compared, Measured
from models.importing import Architecture, Imported, import_checkpoint, read
from models.importing.smaller import Derived, ImportedTgim, images_to_run, smaller
from models.tools import Decode, Tools

VERSION = "1"
# Normalised values lie within a few units of 0; a caller's mistake (0..255) is found all the same.
NORMALISED = (-100.0, 100.0)


def import_(
    context: typer.Context,
    checkpoint: Annotated[Path, typer.Argument(help="File that the LM-HT authors' code wrote.", exists=True)],
    output: Annotated[Path, typer.Option(help="Repository folder; the bundle is written to NAME/1 in it.")],
    arch: Annotated[Architecture | None, typer.Option(help="Which network it is.", show_default="as found")] = None,
    levels: Annotated[
        int | None, typer.Option(min=1, help="Firing levels L, which the file does not hold.", show_default=False)
    ] = None,
    timesteps: Annotated[
        str | None,
        typer.Option(
            help="Budgets, such as 1,2,4: smaller ones are averaged from the file's T. With L = 1 the largest is T.",
            show_default="the file's T",
        ),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            help="Folder of pictures, of one folder for each class or alone: for norms of smaller budgets, and to "
            "measure accuracy, or agreement with the checkpoint."
        ),
    ] = None,
    tgim: Annotated[ImportedTgim, typer.Option(help="Kind of T-GIM; factored is the nearest one.")] = "full",
    precision: Annotated[Precision, typer.Option(help="Of the weights; spikes are exact in both.")] = "float32",
    name: Annotated[str | None, typer.Option(help="Name of the model.", show_default="ARCH")] = None,
    size: Annotated[
        int | None,
        typer.Option(min=8, max=1024, help="Height and width of its pictures, in pixels.", show_default="as trained"),
    ] = None,
    mean: Annotated[list[float] | None, typer.Option(help="Of the pictures (0..1), once per channel.")] = None,
    std: Annotated[list[float] | None, typer.Option(help="Of the pictures (0..1), once per channel.")] = None,
    initial_membrane: Annotated[
        float | None,
        typer.Option(help="v_0, as a fraction of θ.", show_default="0.5 after hybrid training, else 0"),
    ] = None,
    input_scale: Annotated[
        float | None,
        typer.Option(help="Multiplies the first layer's current.", show_default="L after hybrid training, else 1"),
    ] = None,
) -> None:
    """Make a bundle of a checkpoint in the layout of LM-HT's authors; nothing in the file is run.

    Thresholds and weights are the file's own. Without --mean and --std the bundle expects input that is normalised
    already, as `instances`; pictures are then scaled to 0..1 only. Without --calibrate its accuracy is unknown, and its
    card says so.
    """
    tools: Tools = context.obj
    try:
        state = read(checkpoint)
        wanted = whole_numbers(timesteps) if timesteps else None
        plain = not any(key.endswith(".mask") for key in state)
        imported = import_checkpoint(
            state,
            architecture=arch,
            levels=levels,
            timesteps=max(wanted) if wanted and plain else None,
            initial_membrane=initial_membrane,
            input_scale=input_scale,
            mean=mean,
            std=std,
        )
        spec = _input(imported, size, given=bool(mean and std))
        folder = None if calibrate is None else pictures.find(calibrate)
        classes = _classes(imported, folder)
        budgets = wanted or imported.network.spiking.budgets
        derived, measured = _derive(imported, budgets, tgim, spec, folder, classes, tools.decode)
        card = Card(
            name=name or imported.name,
            description=_describe(imported, derived, tgim, checkpoint.name),
            classes=classes,
            input=spec,
            architecture=imported.architecture,
            parameters=derived.parameters,
            made_by=_command(imported, checkpoint, timesteps, calibrate, tgim, precision),
        )
        path = output / card.name / VERSION
        bundle = _write(path, derived, card, precision, measured, tools)
    except (ValueError, BundleError) as error:
        raise typer.BadParameter(str(error)) from error
    _report(path, bundle, imported, derived, precision)
    if folder is not None and not (mean and std):
        console.print("note: without --mean and --std the pictures were scaled to 0..1 and not normalised")
    console.print(f"serve it with: lmht serve --models {output}", highlight=False)


def _input(imported: Imported, size: int | None, *, given: bool) -> InputSpec:
    """``given``: whether the mean and standard deviation are known, so that values are those of pictures."""
    side = size or imported.sides.usual
    if problem := imported.sides.problem(side):
        raise ValueError(f"{imported.name} with this classifier: {problem}")
    parameters = imported.parameters
    return InputSpec(
        channels=parameters["channels"],
        height=side,
        width=side,
        value_range=(0.0, 1.0) if given else NORMALISED,
        mean=tuple(parameters["mean"]),
        std=tuple(parameters["std"]),
        picture=Picture(),
    )


def _classes(imported: Imported, folder: PictureFolder | None) -> tuple[str, ...]:
    """The folder's names where there are as many; else numbers. Raises ValueError for labels that fit no class."""
    count: int = imported.parameters["classes"]
    numbers = tuple(str(index) for index in range(count))
    if folder is None or folder.shown is None:
        return numbers
    if len(folder.classes) == count:
        return folder.classes
    if not set(folder.classes) <= set(numbers):
        raise ValueError(
            f"{folder.root} has pictures of {len(folder.classes)} classes, and the network has {count}: which are "
            f"they? Name them by their numbers, 0 to {count - 1}, or have pictures of all"
        )
    return numbers


def _derive(
    imported: Imported,
    budgets: Sequence[int],
    tgim: ImportedTgim,
    spec: InputSpec,
    folder: PictureFolder | None,
    classes: tuple[str, ...],
    decode: Decode,
) -> tuple[Derived, Measured | Compared | None]:
    """The network to write, and what it is measured on."""
    if folder is None:
        return smaller(imported, budgets, tgim), None
    labels = None if folder.shown is None else folder.labels(classes)
    with bar("reading pictures", len(folder)) as advance:
        images = folder.read(spec, decode, advance)
    with bar("comparing norms", images_to_run(imported, budgets, tgim, len(images))) as advance:
        derived = smaller(imported, budgets, tgim, images, labels, advance)
    name = folder.root.resolve().name
    if labels is not None:
        data = LabelledImages(images, labels)
        return derived, Measured(name, data, data, FOLDER_SPLIT)
    assert derived.answers is not None  # there were images
    (trained,) = imported.network.spiking.budgets
    return derived, Compared(name, images, derived.answers, trained)


def _write(
    path: Path, derived: Derived, card: Card, precision: Precision, measured: Measured | Compared | None, tools: Tools
) -> Bundle:
    if measured is None:
        return assemble(path, derived.network, card, precision)
    with bar(f"measuring {card.name}", measuring.images_to_run(derived.network, measured)) as advance:
        return export(path, derived.network, card, precision, measured, tools.open_engine, model_name(), advance)


def _describe(imported: Imported, derived: Derived, tgim: ImportedTgim, file: str) -> str:
    (trained,) = imported.network.spiking.budgets
    made = [t for t in derived.network.spiking.budgets if t != trained]
    text = f"{imported.name}, imported from {file}"
    if tgim == "factored":
        text += ", its T-GIM factored"
    if made:
        text += f"; T = {', '.join(map(str, made))} by averaging from T = {trained}"
    renewed = [str(t) for t, choice in derived.norms.items() if choice.better == "re-estimated"]
    if renewed:
        text += f"; norms re-estimated at T = {', '.join(renewed)}"
    return f"{text}."


def _command(
    imported: Imported,
    checkpoint: Path,
    timesteps: str | None,
    calibrate: Path | None,
    tgim: ImportedTgim,
    precision: Precision,
) -> str:
    """The command that makes the bundle; where files lie on this machine is nobody's business."""
    options: dict[str, Any] = {"arch": imported.name, "levels": imported.levels, "timesteps": timesteps}
    options |= {"calibrate": calibrate.resolve().name if calibrate else None}
    options |= {"tgim": tgim if tgim != "full" else None, "precision": precision}
    given = [f"--{name} {value}" for name, value in options.items() if value is not None]
    return " ".join(["lmht import", checkpoint.name, *given])


def _report(path: Path, bundle: Bundle, imported: Imported, derived: Derived, precision: Precision) -> None:
    for note in imported.notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    for timesteps, choice in derived.norms.items():
        console.print(
            f"T = {timesteps}: norms {choice.better} ({choice.kept:.2%} right with those of the file, "
            f"{choice.reestimated:.2%} re-estimated on the other half of the pictures)",
            highlight=False,
        )
    manifest = bundle.manifest
    if any(budget.accuracy or budget.agreement for budget in manifest.budgets):
        console.print(measured_table(manifest))
    budgets = ", ".join(map(str, manifest.timesteps))
    summary = (
        f"{path}: {imported.name}, T = {budgets}, L = {imported.levels}, {len(manifest.classes)} classes, {precision}"
    )
    console.print(summary, highlight=False)
