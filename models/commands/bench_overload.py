"""`lmht bench overload`: a server beyond its capacity, with fixed budgets and with `auto`."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from models import bundle as bundles
from models.bench import random_network, report
from models.bench.http import cores as placing
from models.bench.http import wrk
from models.bench.http.errors import BenchError
from models.bench.http.overload import AUTO, Point, Study
from models.bench.http.overload import overload as measure
from models.bench.report import progress
from models.bundle import ZOO, BundleError
from models.commands.progress import console
from models.machine import Machine, describe_machine
from models.tools import Tools

_BUDGETS = (1, 2, 4)
_LOADS = "0.5,1,2,3"


def overload(
    context: typer.Context,
    loads: Annotated[str, typer.Option(help="Shares of what the server answers at the largest budget.")] = _LOADS,
    deadline: Annotated[float, typer.Option(min=1, help="In times of one image at the largest budget.")] = 5.0,
    seconds: Annotated[float, typer.Option(min=1, help="How long each load lasts.")] = 8.0,
    seed: Annotated[int, typer.Option(min=0, help="Of arrivals and order.")] = 0,
    accuracies: Annotated[Path, typer.Option(help="Bundle whose accuracies stand for the budgets'.")] = ZOO
    / "numbers"
    / "1",
    to: Annotated[Path | None, typer.Option("--report", help="Write the table to this Markdown file.")] = None,
) -> None:
    """Let Poisson arrivals meet a running server of ResNet-18's size: auto against fixed budgets.

    The server and its engine have one core, the client another.
    """
    tools: Tools = context.obj
    try:
        wanted = sorted({float(load) for load in loads.split(",")})
        if wanted[0] <= 0:
            raise ValueError
    except ValueError as error:
        raise typer.BadParameter("loads are positive numbers with commas between them") from error
    try:
        manifest = bundles.load(accuracies).manifest
        right = {b.timesteps: b.accuracy.served for b in manifest.budgets if b.accuracy}
        if not right.keys() >= set(_BUDGETS):
            raise typer.BadParameter(f"{manifest.name} has no measured accuracy for each of T = 1, 2, 4")
        where = placing.choose()
        generator = wrk.find(where.client)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            bundle = folder / "overload" / random_network.RESNET18 / "1"
            random_network.write_bundle(bundle, "full", "lmht bench overload", _BUDGETS)
            with progress("loads") as on_point:
                found = measure(
                    bundle,
                    _BUDGETS,
                    wanted,
                    deadline=deadline,
                    seconds=seconds,
                    seed=seed,
                    wrk=generator,
                    cores=where,
                    open_engine=tools.open_engine,
                    folder=folder,
                    on_point=on_point,
                )
    except (BenchError, BundleError) as error:
        typer.secho(f"lmht: {error}", err=True, fg=typer.colors.RED)
        raise typer.Exit(1) from error
    machine = describe_machine(threads={"server": 1, "client": 1})
    header, rows = _table(found, right)
    table = Table(*header, title=_about(found), title_justify="left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if not found.valid:
        console.print("INVALID: the client did not keep up, and its own delay is in the figures", style="red")
    if to is not None:
        to.write_text(_markdown(found, manifest.name, header, rows, machine), encoding="utf-8")


def _table(found: Study, right: dict[int, float]) -> tuple[list[str], list[list[str]]]:
    header = [
        "load", "budget", "in time", "late", "refused", "failed", "accuracy", "right", "p50", "p99", "budgets used"
    ]  # fmt: skip
    return header, [_row(point, found, right) for point in found.points]


def _row(point: Point, found: Study, right: dict[int, float]) -> list[str]:
    answers = sum(point.budgets.values())
    accuracy = sum(n * right[t] for t, n in point.budgets.items()) / answers if answers else math.nan
    used = ", ".join(f"{t}: {n / answers:.0%}" for t, n in point.budgets.items())
    return [
        f"{point.load:g}",
        AUTO if point.way == AUTO else f"T = {point.way}",
        *(f"{share:.1%}" for share in (point.in_time, point.late, point.refused, point.failed)),
        "" if math.isnan(accuracy) else f"{accuracy:.2%}",
        "" if math.isnan(accuracy) else f"{accuracy * point.in_time:.2%}",
        *("" if math.isnan(s) else f"{s / found.deadline_s:.2f}" for s in (point.p50_s, point.p99_s)),
        used,
    ]


def _about(found: Study) -> str:
    return (
        f"ResNet-18's size, {found.engine}: load 1 is {found.capacity:.4g} images/s at T = {found.budgets[-1]}; "
        f"deadline {1000 * found.deadline_s:.4g} ms; latencies in deadlines"
    )


def _markdown(found: Study, model: str, header: list[str], rows: list[list[str]], machine: Machine) -> str:
    late = max(point.client_late_s for point in found.points) * 1000
    lines = [
        "# A running server under load",
        "",
        f"{_about(found)}. Made by `lmht bench overload`.",
        "",
        "* Poisson arrivals of single 32×32 pictures over HTTP on loopback, an open loop; server and engine on one "
        f"core, the client on another; {found.seconds:g} s a row, in random order; the first tenth is not counted.",
        f"* A network of ResNet-18's size with the full T-GIM and random weights; accuracy is that of `{model}` at the "
        "budgets that were run.",
        "* In time: answered with a 200. Late: 504. Refused: 429. Right: in time and right, of all requests. Latencies "
        f"count from when a request was to be sent; the client was {late:.2g} ms late at most (median of a row).",
        *([] if found.valid else ["* **INVALID**: the client did not keep up."]),
        "",
        *report.table(header, rows),
        "",
        *(f"* {line}" for line in report.machine_lines(machine)),
    ]
    return "\n".join(lines) + "\n"
