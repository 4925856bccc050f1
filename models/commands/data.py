"""`lmht data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from models import bundle as bundles
from models.bundle import ZOO, BundleError, Manifest
from models.commands.progress import bar, console
from models.data import Split, dataset, folder, load, stride


def data(
    model: Annotated[
        str, typer.Argument(help="Folder of a bundle, of a model's versions, or the name of a bundled model.")
    ],
    output: Annotated[Path, typer.Option(help="Folder to write; one that this command wrote is replaced.")],
    split: Annotated[Split, typer.Option(help="Part of the data set.")] = "test",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Most pictures, from all over it.", show_default="all")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the data, for data sets that are read from one.")] = None,
) -> None:
    """Write the pictures that a model was measured on as PNG files, and labels.csv with the class of each.

    For lmht tradeoff, lmht classify and the load test.
    Pixels are rounded to 8 bits; those of the data sets here have no more to begin with.
    """
    try:
        manifest = bundles.load(_bundle(model)).manifest
        name = dataset(_dataset(manifest)).name
    except (BundleError, ValueError) as error:
        raise typer.BadParameter(f"{model}: {error}") from error
    try:
        folder.check(output)  # before the data are read or composed, which takes seconds
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error), param_hint="--output") from error
    try:
        pictures = load(name, split, root)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--root") from error
    try:
        with bar(f"writing {name}", len(range(0, len(pictures), stride(len(pictures), limit)))) as advance:
            count = folder.write(
                output, pictures, manifest.classes, dataset=name, split=split, limit=limit, on_picture=advance
            )
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error), param_hint="--output") from error
    console.print(
        f"{output}: {count:,} of {len(pictures):,} pictures of {name}, {split}", highlight=False, markup=False
    )


def _bundle(model: str) -> Path:
    """The folder of a bundle; of a model, that of its highest version. Raises BundleError."""
    for place in (Path(model), ZOO / model):
        if (place / bundles.MANIFEST).is_file():
            return place
        versions = [path for path in place.glob("*/") if path.name.isdecimal() and (path / bundles.MANIFEST).is_file()]
        if versions:
            return max(versions, key=lambda path: int(path.name))
    bundled = ", ".join(sorted(path.name for path in ZOO.iterdir() if path.is_dir()))
    raise BundleError(f"neither a bundle, nor a folder of a model's versions, nor a bundled model: {bundled}")


def _dataset(manifest: Manifest) -> str:
    """The name of the data set that the budgets' accuracies are of. Raises BundleError."""
    names = sorted({budget.accuracy.dataset for budget in manifest.budgets if budget.accuracy})
    if len(names) == 1:
        return names[0]
    raise BundleError(f"was measured on {' and '.join(names)}" if names else "was measured on no labelled pictures")
