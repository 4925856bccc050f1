"""`lmht plot`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from models import bundle as bundles
from models.bundle import Bundle, BundleError
from models.commands.progress import console
from models.cpu import model_name
from models.energy import DEFAULT_PROFILE, account
from models.tools import OpenEngine, Tools

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.fonttype"] = "none"  # text stays text
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(14, 3.6), sharey=True, layout="constrained")
    for bundle, latency, marker in zip(loaded, latencies, "os^Dv" * len(loaded), strict=False):
        manifest = bundle.manifest
        accuracies = [b.accuracy for b in manifest.budgets if b.accuracy is not None]
        spikes = [sum(b.mean_spikes) for b in manifest.budgets if b.mean_spikes is not None]
        if not len(accuracies) == len(spikes) == len(manifest.budgets):
            raise typer.BadParameter(f"{bundle.path} was made without labelled images")
        # Energy is affine in the counts, so that of the means is the mean.
        energy = [
            account(manifest, b.timesteps).estimate(np.array(b.mean_spikes), np.array(b.mean_synops)).snn_nj or 0.0
            for b in manifest.budgets
        ]
        percent = [100 * accuracy.served for accuracy in accuracies]
        # The binomial standard error of an accuracy measured on so many images.
        errors = [100 * (a.served * (1 - a.served) / a.samples) ** 0.5 for a in accuracies]
        panels: list[Sequence[float]] = [manifest.timesteps, spikes, energy, latency]
        for axis, values in zip(axes, panels, strict=True):
            axis.errorbar(values, percent, errors, marker=marker, capsize=3, label=manifest.name, alpha=0.85)
            for value, y, timesteps in zip(values, percent, manifest.timesteps, strict=True):
                axis.annotate(f"T={timesteps}", (value, y), textcoords="offset points", xytext=(5, 6), fontsize=8)
    _label(axes[0], "time-steps T")
    axes[0].set_ylabel("accuracy, % (± 1 standard error)")
    axes[0].set_xscale("log", base=2)
    ticks = sorted({t for bundle in loaded for t in bundle.manifest.timesteps})
    axes[0].set_xticks(ticks, [str(t) for t in ticks])
    axes[1].legend(loc="lower right")
    _label(axes[1], "spikes an image")
    _label(axes[2], f"energy of an image, nJ\n(estimate, {DEFAULT_PROFILE})")
    _label(axes[3], f"latency of one image, ms\n({model_name()})")
    figure.savefig(output, dpi=150)
    plt.close(figure)


def _label(axis: Axes, text: str) -> None:
    axis.set_xlabel(text)
    axis.margins(x=0.14)  # for the labels beside the points
    axis.grid(alpha=0.3)
