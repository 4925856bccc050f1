"""`lmht evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast, get_args

import typer
from rich.table import Table

from models import bundle as bundles
from models import evaluation
from models.bundle import Accuracy, Budget, BundleError, Engine, Manifest
from models.commands.progress import bar, console
from models.data import DATASETS, LabelledImages, Split, load, pictures
from models.tools import Decode, DeviceName, Tools

TOLERANCE_IMAGES = 2
# What an accuracy's split is called that was measured on a folder of a user's.
FOLDER_SPLIT = "calibration"


def evaluate(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Folder of a bundle, e.g. models/zoo/mnist/1.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the data, for those that are read from one.")] = None,
    device: Annotated[DeviceName, typer.Option(help="What the bundle is served on.")] = "cpu",
) -> None:
    """Recompute every accuracy that a bundle claims, from the bundle and the test images.

    Ends with status 1 when one differs from the manifest by more than two images.
    """
    tools: Tools = context.obj
    try:
        bundle = bundles.load(folder)
        claimed = [budget for budget in bundle.manifest.budgets if budget.accuracy is not None]
        if not claimed:
            console.print(f"{folder} claims no accuracy: it was made without labelled images")
            raise typer.Exit(1)
        engine = tools.open_engine(bundle, device=device)
        try:
            wrong = _evaluate(bundle, engine, claimed, root, tools.decode)
        finally:
            engine.close()
    except BundleError as error:
        raise typer.BadParameter(f"{folder}: {error}") from error
    if wrong:
        console.print(f"{wrong} of the manifest's accuracies differ by more than {TOLERANCE_IMAGES} images")
        raise typer.Exit(1)


def _evaluate(bundle: bundles.Bundle, engine: Engine, claimed: list[Budget], root: Path | None, decode: Decode) -> int:
    """Print the comparison; returns how many accuracies are off."""
    table = Table(
        "T", "served", "claimed", "float32", "claimed", "difference", "spikes", "",
        title=f"{bundle.manifest.name}: {max(b.accuracy.samples for b in claimed if b.accuracy):,} images",
        caption="difference: served minus float32, in points ± standard error; spikes an image",
        padding=(0, 0),
    )  # fmt: skip
    sets = {(a.dataset, a.split): _load(a, bundle.manifest, root, decode) for b in claimed if (a := b.accuracy)}
    wrong = 0
    right = []
    images = sum(2 * budget.accuracy.samples for budget in claimed if budget.accuracy)
    with bar(f"evaluating {bundle.manifest.name}", images) as advance:
        for budget in claimed:
            assert budget.accuracy is not None
            data = sets[budget.accuracy.dataset, budget.accuracy.split]
            answers = evaluation.served(engine, data.images, budget.timesteps, advance)
            exact = evaluation.float32(bundle, data.images, budget.timesteps, advance)
            right.append(answers.right(data.labels))
            exactly_right = exact.argmax(1) == data.labels
            found = (int(right[-1].sum()), int(exactly_right.sum()))
            claims = (budget.accuracy.served, budget.accuracy.float32)
            off = [abs(f - evaluation.correct(c, data)) > TOLERANCE_IMAGES for f, c in zip(found, claims, strict=True)]
            wrong += sum(off)
            cells = [f"{value:.2%}" for f, c in zip(found, claims, strict=True) for value in (f / len(data), c)]
            cells.append(evaluation.gap(exactly_right, right[-1]))
            spikes = f"{answers.mean_spikes.sum():,.0f}"
            table.add_row(str(budget.timesteps), *cells, spikes, "differs" if any(off) else "agrees")
    console.print(table)
    if len(sets) == 1 and len(claimed) > 1:
        smallest, largest = claimed[0].timesteps, claimed[-1].timesteps
        points = evaluation.gap(right[0], right[-1])
        console.print(f"from T={smallest} to T={largest}: {points} points, on the same images")
    return wrong


def _load(accuracy: Accuracy, manifest: Manifest, root: Path | None, decode: Decode) -> LabelledImages:
    """The images that an accuracy is of: a data set's, or a folder's that ``lmht import --calibrate`` was given."""
    name, split = accuracy.dataset, accuracy.split
    try:
        if split == FOLDER_SPLIT:
            if root is None:
                raise ValueError(f"its accuracy is of the folder {name!r}, which has to be given")
            folder = pictures.find(root)
            return LabelledImages(folder.read(manifest.input, decode), folder.labels(manifest.classes))
        if name not in DATASETS or split not in get_args(Split):
            raise BundleError(f"its accuracy is of unknown data: {name}, {split}")
        return load(name, cast(Split, split), root)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--root") from error


def accuracy_table(manifest: Manifest) -> Table:
    """What a manifest claims, as a table."""
    table = Table("T", "served", "float32", "temperature", "spikes/image", "synops/image", title=manifest.name)
    for budget in manifest.budgets:
        accuracy = budget.accuracy
        counts = [f"{sum(means):,.0f}" if means else "–" for means in (budget.mean_spikes, budget.mean_synops)]
        rates = [f"{accuracy.served:.2%}", f"{accuracy.float32:.2%}"] if accuracy else ["–", "–"]
        table.add_row(str(budget.timesteps), *rates, f"{budget.temperature:.2f}", *counts)
    return table
