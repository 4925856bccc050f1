"""`lmht cascade`."""

from __future__ import annotations

import random
import time
from contextlib import closing
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from models import bundle as bundles
from models import cascade as cascades
from models import energy, evaluation
from models.bench import report
from models.bundle import Bundle, BundleError, Engine
from models.cascade import COMPUTE, COSTS, ENERGY, Equal, Ran
from models.commands.progress import bar, console
from models.cpu import available_threads
from models.data import LabelledImages, load
from models.energy import DEFAULT_PROFILE, PROFILES
from models.machine import describe_machine
from models.tools import Tools

_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
_ROUNDS = 30


def cascade(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Folder of a bundle with several budgets, e.g. models/zoo/numbers/1.")],
    profile: Annotated[str, typer.Option(help=f"Energy profile: {', '.join(PROFILES)}.")] = DEFAULT_PROFILE,
    root: Annotated[Path | None, typer.Option(help="Folder of the data, for data sets that are read from one.")] = None,
    to: Annotated[Path | None, typer.Option("--report", help="Write the tables to this file, Markdown.")] = None,
) -> None:
    """What `min_confidence` saves on the test images: energy and compute, at the accuracy of every fixed budget."""
    tools: Tools = context.obj
    if profile not in PROFILES:
        raise typer.BadParameter(f"there is no profile {profile!r}", param_hint="--profile")
    try:
        bundle = bundles.load(folder)
        largest = bundle.manifest.budgets[-1]
        accuracy = largest.accuracy
        if accuracy is None or len(bundle.manifest.budgets) < 2:
            raise typer.BadParameter(f"{folder} has one budget, or was not measured on labelled images")
        if note := energy.account(bundle.manifest, largest.timesteps, profile).note:
            raise typer.BadParameter(f"{profile} does not apply: {note}", param_hint="--profile")
        data = load(accuracy.dataset, "test", root)
        with closing(tools.open_engine(bundle)) as engine:
            ran = _run(bundle, engine, data, profile)
    except BundleError as error:
        raise typer.BadParameter(f"{folder}: {error}") from error
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--root") from error
    tables = {"At the accuracy of a fixed budget": _equals(ran), "By threshold": _sweep(ran)}
    for title, (header, rows) in tables.items():
        table = Table(title=f"{bundle.manifest.name}: {title[0].lower()}{title[1:]}", title_justify="left")
        for index, column in enumerate(header):
            table.add_column(column, justify="right" if index else "left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    console.print(_METHOD, style="dim")
    if to is not None:
        lines = [f"# What a cascade saves on {bundle.manifest.name}", ""]
        lines += [f"Made by `lmht cascade`, on {len(data):,} test images; energy by `{profile}`.", ""]
        for title, (header, rows) in tables.items():
            lines += [f"{title}:", "", *report.table(header, rows), ""]
        machine = describe_machine(threads={"engine": available_threads()})
        lines += [_METHOD, "", *(f"* {line}" for line in report.machine_lines(machine))]
        to.write_text("\n".join(lines) + "\n", encoding="utf-8")


_METHOD = (
    "A cascade runs all images at a small budget and those of too little confidence again at a larger one. Thresholds "
    "for the accuracy of a fixed budget are chosen on one half of the images and applied to the other, both ways. "
    "Ratios are to the fixed budget; compute is engine time of full batches, medians of interleaved rounds."
)


def _run(bundle: Bundle, engine: Engine, data: LabelledImages, profile: str) -> dict[int, Ran]:
    budgets = bundle.manifest.budgets
    seconds = _seconds(engine, data, [budget.timesteps for budget in budgets])
    with bar(f"running {bundle.manifest.name}", len(budgets) * len(data)) as advance:
        return {
            b.timesteps: cascades.run(bundle, engine, b, data, profile, seconds[b.timesteps], advance) for b in budgets
        }


def _seconds(engine: Engine, data: LabelledImages, budgets: list[int]) -> dict[int, float]:
    """Engine seconds an image in full batches, by budget."""
    images = data.images[: engine.batch_sizes[-1]]
    taken: dict[int, list[float]] = {t: [] for t in budgets}
    order = random.Random(0)
    for number in range(_ROUNDS + 1):
        order.shuffle(budgets)
        for timesteps in budgets:
            began = time.perf_counter()
            for _ in range(10):
                engine.run(images, timesteps)
            if number:  # the first round warms up
                taken[timesteps].append((time.perf_counter() - began) / 10 / len(images))
    return {t: float(np.median(durations)) for t, durations in taken.items()}


def _equals(ran: dict[int, Ran]) -> tuple[list[str], list[list[str]]]:
    rows: list[list[str]] = []
    for fixed in sorted(ran)[1:]:
        right = ran[fixed].right
        rows += [
            [f"T = {fixed}", f"{right.mean():.2%}", *_row(e, ran[fixed])] for e in cascades.best(right, fixed, ran)
        ]
    return [
        "fixed",
        "accuracy",
        "cascade",
        "min_confidence",
        "run again",
        "accuracy, points",
        *(f"{c} ÷" for c in COSTS),
    ], rows


def _row(equal: Equal, fixed: Ran) -> list[str]:
    found = equal.cascade
    return [
        f"{equal.small} → {equal.large}",
        " / ".join(f"{threshold:.2f}" for threshold in equal.min_confidence),
        f"{found.again:.0%}",
        evaluation.gap(fixed.right, found.right),
        *(f"{found.cost[name].mean() / fixed.cost[name].mean():.2f}" for name in COSTS),
    ]


def _sweep(ran: dict[int, Ran]) -> tuple[list[str], list[list[str]]]:
    """The cascade that the service runs, from the smallest budget to the largest."""
    smallest, largest = ran[min(ran)], ran[max(ran)]
    rows = []
    for threshold in _THRESHOLDS:
        found = cascades.cascade(smallest, largest, threshold)
        rows.append(
            [
                f"{threshold:g}",
                f"{found.again:.0%}",
                f"{found.right.mean():.2%}",
                *(f"{found.cost[name].mean() / largest.cost[name].mean():.2f}" for name in (ENERGY, COMPUTE)),
            ]
        )
    return [
        "min_confidence",
        "run again",
        "accuracy",
        f"{ENERGY} ÷ T = {max(ran)}",
        f"{COMPUTE} ÷ T = {max(ran)}",
    ], rows
