"""`lmht train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from models.commands.progress import console, new
from models.data import load
from models.training.loop import Epoch
from models.training.loop import train as run
from models.training.network_file import FILE, save
from models.training.recipes import RECIPES
from models.training.recipes import recipe as look_up
from models.training.sources import source


def train(
    recipe: Annotated[str, typer.Argument(help=f"What to train: {', '.join(sorted(RECIPES))}.")],
    output: Annotated[Path | None, typer.Option(help="Folder of the run.", show_default="runs/RECIPE")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads. One seed gives one network per thread count.")] = 1,
    epochs: Annotated[int | None, typer.Option(min=1, help="Stop after this many epochs of the recipe.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the data, for data sets that are read from one.")] = None,
) -> None:
    """Train a recipe's network with all its budgets together; called again, it goes on where it stopped."""
    try:
        chosen = look_up(recipe)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    folder = output or Path("runs") / recipe
    torch.set_num_threads(threads)
    try:
        training, validation = source(chosen.dataset, root=root), load(chosen.dataset, "validation", root)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--root") from error
    with new() as progress:
        task = progress.add_task(f"training {recipe}", total=None)

        def on_epoch(epoch: Epoch) -> None:
            accuracy = "  ".join(f"T={t} {value:.1%}" for t, value in epoch.accuracy.items())
            kept = "  kept" if epoch.kept else ""
            progress.print(
                f"epoch {epoch.number}/{chosen.epochs}  loss {epoch.loss:.4f}  "
                f"validation {epoch.validation_loss:.4f}  {accuracy}{kept}"
            )

        try:
            network = run(
                chosen,
                training,
                validation,
                folder,
                epochs=epochs,
                on_step=lambda step, steps: progress.update(task, completed=step, total=steps),
                on_epoch=on_epoch,
            )
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--output") from error
    save(folder / FILE, chosen.name, network)
    console.print(
        f"{folder / FILE} holds the network; `lmht export {folder}{' --root …' if root else ''}` makes a bundle of it"
    )
