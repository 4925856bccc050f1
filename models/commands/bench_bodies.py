"""`lmht bench bodies`: what the form of a request's images costs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from models.bench import report
from models.bench.http import bodies as measured
from models.bench.http import cores as placing
from models.bench.http.bodies import Forms
from models.bench.http.errors import BenchError
from models.bench.http.plan import Plan
from models.bench.report import duration, progress
from models.bundle import BundleError
from models.commands.progress import console
from models.machine import describe_machine


def bodies(
    images: Annotated[int, typer.Option(min=1, max=64, help="Images a request.")] = 64,
    rounds: Annotated[int, typer.Option(min=3, help="Interleaved rounds.")] = 20,
    seconds: Annotated[int, typer.Option(min=1, help="How long other requests are watched beside each form.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the images, the weights and the order in the rounds.")] = 0,
    json: Annotated[Path | None, typer.Option(help="Write the measurements to this file.")] = None,
) -> None:
    """Send the same images of 3×32×32 as JSON numbers, as binary tensors and as pictures, to a small network.

    The server and its engine have one core, the client another.
    """
    try:
        cores = placing.choose()
        machine = describe_machine(threads={"server": 1, "client": 1})
        plan = Plan(rounds, seconds, 1, seed, machine)
        with tempfile.TemporaryDirectory() as folder, progress("forms") as on_round:
            found = measured.compare_forms(images, cores, Path(folder), plan, on_round)
    except (BenchError, BundleError) as error:
        typer.secho(f"lmht: {error}", err=True, fg=typer.colors.RED)
        raise typer.Exit(1) from error
    report.print_table(found.comparison, console)
    console.print(_waits(found))
    if json is not None:
        json.write_text(report.to_json(found.comparison), encoding="utf-8")


def _waits(found: Forms) -> Table:
    table = Table(title="What another connection's /livez takes meanwhile")
    for heading in ("form", "body", "median", "99th percentile", "longest"):
        table.add_column(heading, justify="left" if heading == "form" else "right")
    for form, size in found.sizes.items():
        waits = (duration(found.wait_s(form, percentile)) for percentile in (50, 99, 100))
        table.add_row(form, f"{size / 1000:,.0f} kB", *waits)
    return table
