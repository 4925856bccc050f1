"""`lmht bench costs`: what batches of a network take, for `lmht simulate`."""

from __future__ import annotations

import dataclasses
import json as json_format
import random
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from models import bundle as bundles
from models.bench import random_network
from models.bundle import Bundle, BundleError, Engine
from models.commands.progress import bar, console
from models.cpu import available_threads
from models.machine import describe_machine
from models.tools import Tools

_SIZES = (1, 2, 4, 8, 16)


def costs(
    context: typer.Context,
    json: Annotated[Path, typer.Argument(help="File to write.", dir_okay=False)],
    folder: Annotated[
        Path | None,
        typer.Option("--bundle", help="Folder of a bundle. Without it, a ResNet-18 with random weights, full T-GIM."),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of the engine; all cores unless given.")] = None,
    rounds: Annotated[int, typer.Option(min=3, help="Interleaved rounds.")] = 20,
) -> None:
    """Time batches of 1 to 16 images at every budget, in the engine that serves."""
    tools: Tools = context.obj
    threads = threads or available_threads()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            if folder is None:
                bundle = random_network.write_bundle(Path(scratch) / "1", "full", "lmht bench costs", budgets=(1, 2, 4))
            else:
                bundle = bundles.load(folder)
            with closing(tools.open_engine(bundle, threads=threads)) as engine:
                document = _measure(bundle, engine, rounds)
        except BundleError as error:
            raise typer.BadParameter(f"{folder}: {error}") from error
    document["machine"] = dataclasses.asdict(describe_machine(threads={"engine": threads}))
    json.write_text(json_format.dumps(document, indent=1) + "\n", encoding="utf-8")
    table = Table("images", *(f"T = {t}, ms" for t in document["seconds"]), title=document["network"])
    for size in _SIZES:
        table.add_row(str(size), *(f"{1000 * seconds[size]:.3g}" for seconds in document["seconds"].values()))
    console.print(table)
    console.print(f"a single run varies by {100 * document['variation']:.1f} %; written to {json}")


def _measure(bundle: Bundle, engine: Engine, rounds: int) -> dict[str, Any]:
    """Medians over interleaved rounds, and the spread of single runs: 1.48 times the median deviation, as a share."""
    manifest = bundle.manifest
    images = np.random.default_rng(0).random((_SIZES[-1], *manifest.input.shape), np.float32)
    cells = [(t, size) for t in manifest.timesteps for size in _SIZES]
    taken: dict[tuple[int, int], list[float]] = {cell: [] for cell in cells}
    order = random.Random(0)
    with bar(f"timing {manifest.name}", (rounds + 1) * len(cells)) as advance:
        for number in range(rounds + 1):
            order.shuffle(cells)
            for timesteps, size in cells:
                began = time.perf_counter()
                engine.run(images[:size], timesteps)
                if number:  # the first round warms up
                    taken[timesteps, size].append(time.perf_counter() - began)
                advance(1)
    medians = {cell: float(np.median(seconds)) for cell, seconds in taken.items()}
    deviations = [abs(s / medians[cell] - 1) for cell, seconds in taken.items() for s in seconds]
    return {
        "network": f"{manifest.name} ({manifest.tgim} T-GIM, L = {manifest.levels}, {engine.name})",
        "seconds": {t: {size: medians[t, size] for size in _SIZES} for t in manifest.timesteps},
        "variation": 1.48 * float(np.median(deviations)),
    }
