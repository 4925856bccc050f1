"""`lmht simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from models import bundle as bundles
from models.bundle import ZOO, BundleError
from service.simulation import report
from service.simulation.engine import CostsError, read_costs
from service.simulation.study import study, ways

LOADS = "0.2,0.5,0.8,1,1.5,2,2.5,3"


def simulate(
    costs: Annotated[Path, typer.Argument(help="What batches take, as `lmht bench costs` writes it.", dir_okay=False)],
    bundle: Annotated[Path, typer.Option(help="Folder of the bundle that the accuracies are taken from.")] = ZOO
    / "numbers"
    / "1",
    loads: Annotated[str, typer.Option(help="Shares of the capacity at the largest budget.")] = LOADS,
    deadline: Annotated[float, typer.Option(min=0.1, help="In times of one image at the largest budget.")] = 5.0,
    requests: Annotated[int, typer.Option(min=10, help="Requests a run.")] = 5000,
    seed: Annotated[int, typer.Option(help="Of arrivals and times.")] = 1,
    http_ms: Annotated[
        float, typer.Option(min=0, help="What HTTP takes of the engine's own core for each request.")
    ] = 0.0,
    report_to: Annotated[Path | None, typer.Option("--report", help="Write a report to this Markdown file.")] = None,
) -> None:
    """Let the scheduler meet loads beyond its capacity, on a simulated clock: auto against fixed budgets."""
    console = Console()
    try:
        wanted = sorted({float(load) for load in loads.split(",")})
        if not wanted or wanted[0] <= 0:
            raise ValueError
    except ValueError as error:
        raise typer.BadParameter("loads are positive numbers with commas between them") from error
    try:
        measured = read_costs(costs)
        manifest = bundles.load(bundle).manifest
        accuracies = {b.timesteps: b.accuracy.served for b in manifest.budgets if b.accuracy}
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as progress:
            runs = len(wanted) * len(ways([t for t in measured.budgets if t in accuracies], http_ms))
            task = progress.add_task("simulating", total=runs)
            found = study(
                measured,
                accuracies,
                manifest.name,
                wanted,
                deadline=deadline,
                requests=requests,
                seed=seed,
                http_s=http_ms / 1000,
                on_run=lambda done: progress.advance(task, done),
            )
    except (CostsError, BundleError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    console.print(report.table(found))
    for finding in report.findings(found):
        console.print(f"* {finding}")
    if report_to is not None:
        report_to.write_text(report.markdown(found), encoding="utf-8")
        console.print(f"the report is in {report_to}")
