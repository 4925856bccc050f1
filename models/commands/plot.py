"""`lmht plot`."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from models import bundle as bundles
from models import panels
from models.bundle import Budget, Bundle, BundleError
from models.commands.progress import console
from models.cpu import model_name
from models.energy import DEFAULT_PROFILE, account
from models.panels import Line, Point
from models.tools import OpenEngine, Tools

RUNS = 200


def plot(
    context: typer.Context,
    folders: Annotated[list[Path], typer.Argument(help="Folders of bundles.")],
    output: Annotated[Path, typer.Option(help="The picture to write, PNG or SVG.")] = Path("tradeoff.png"),
) -> None:
    """Draw accuracy against time-steps, spikes, energy and latency: of one image at a time, measured here and now."""
    tools: Tools = context.obj
    try:
        loaded = [bundles.load(folder) for folder in folders]
        latencies = _latencies(loaded, tools.open_engine)
    except BundleError as error:
        raise typer.BadParameter(str(error)) from error
    draw(loaded, latencies, output)
    console.print(f"{output}: {', '.join(bundle.manifest.name for bundle in loaded)}")


def _latencies(loaded: list[Bundle], open_engine: OpenEngine) -> list[list[float]]:
    """Median milliseconds of a single image, per bundle and budget; run in turn, so that none is favoured."""
    engines = [open_engine(bundle, batch_sizes=(1,)) for bundle in loaded]
    times: dict[tuple[int, int], list[float]] = {}
    for _ in range(RUNS):
        for index, (bundle, engine) in enumerate(zip(loaded, engines, strict=True)):
            image = np.zeros((1, *bundle.manifest.input.shape), np.float32)
            for timesteps in bundle.manifest.timesteps:
                start = time.perf_counter()
                engine.run(image, timesteps)
                times.setdefault((index, timesteps), []).append(1000 * (time.perf_counter() - start))
    for engine in engines:
        engine.close()
    return [[statistics.median(times[i, t]) for t in b.manifest.timesteps] for i, b in enumerate(loaded)]


def draw(loaded: list[Bundle], latencies: list[list[float]], output: Path) -> None:
    """Draw the four panels. A bundle without accuracy has nothing to show and is refused with BadParameter."""
    lines = [
        Line(
            bundle.manifest.name,
            [_point(bundle, b, ms) for b, ms in zip(bundle.manifest.budgets, latency, strict=True)],
        )
        for bundle, latency in zip(loaded, latencies, strict=True)
    ]
    panels.draw(
        lines,
        output,
        energy=f"estimate, {DEFAULT_PROFILE}",
        latency=f"latency of one image, ms\n({model_name()})",
    )


def _point(bundle: Bundle, budget: Budget, latency_ms: float) -> Point:
    accuracy, spikes, synops = budget.accuracy, budget.mean_spikes, budget.mean_synops
    if accuracy is None or spikes is None or synops is None:
        raise typer.BadParameter(f"{bundle.path} was made without labelled images")
    # Energy is affine in the counts, so that of the means is the mean.
    estimate = account(bundle.manifest, budget.timesteps).estimate(np.array(spikes), np.array(synops))
    return Point(
        name=f"T={budget.timesteps}",
        timesteps=budget.timesteps,
        accuracy=accuracy.served,
        # The binomial standard error of an accuracy measured on so many images.
        error=(accuracy.served * (1 - accuracy.served) / accuracy.samples) ** 0.5,
        spikes=sum(spikes),
        energy_nj=estimate.snn_nj,
        latency_ms=latency_ms,
    )
