"""`lmht bench start`: how long a server takes to answer, and to be ready."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from models.bench.http import start as measured
from models.bench.http.errors import BenchError
from models.bench.http.start import Loaded, Start, Starts
from models.bench.report import duration, machine_lines, progress
from models.bundle import ZOO
from models.commands.progress import console
from models.machine import describe_machine


def start(
    models: Annotated[
        list[Path] | None,
        typer.Option(
            help="Repository folder; each that is named is started on its own.", show_default="bundled models"
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Starts with each, after one that warms up the disk's cache.")] = 5,
    json: Annotated[Path | None, typer.Option(help="Write the measurements to this file.")] = None,
) -> None:
    """Time `lmht serve` from the start of its process until /livez and until /readyz, and what each model takes of it.

    LMHT_ variables of the environment reach the server, LMHT_WORKERS aside.
    """
    repositories = {str(folder): (folder,) for folder in models} if models else {"the bundled models": (ZOO,)}
    settings = measured.passed_on()
    try:
        with tempfile.TemporaryDirectory() as folder, progress("starting") as on_round:
            found = measured.measure(repositories, rounds, Path(folder), on_round)
    except BenchError as error:
        typer.secho(f"lmht: {error}", err=True, fg=typer.colors.RED)
        raise typer.Exit(1) from error
    machine = describe_machine()
    for starts in found:
        console.print(_phases(starts))
        console.print(_models(starts))
    if settings:
        console.print("settings: " + ", ".join(f"{name}={value}" for name, value in settings.items()))
    for line in machine_lines(machine):
        console.print(line, style="dim", highlight=False)
    if json is not None:
        json.write_text(measured.to_json(found, machine, settings), encoding="utf-8")


def _phases(starts: Starts) -> Table:
    table = Table(
        title=f"{starts.name}: from the start of the process, {len(starts.starts)} starts", title_justify="left"
    )
    for heading in ("until", "median", "least", "most", "first start"):
        table.add_column(heading, justify="left" if heading == "until" else "right")
    phases: dict[str, Callable[[Start], float]] = {
        "the port is taken": lambda each: each.listening_s,
        "/livez answers": lambda each: each.alive_s,
        "/readyz is 200": lambda each: each.ready_s,
    }
    for name, seconds_of in phases.items():
        seconds = (starts.median_s(seconds_of), *starts.range_s(seconds_of), seconds_of(starts.first))
        table.add_row(name, *map(duration, seconds))
    return table


def _models(starts: Starts) -> Table:
    table = Table(title="What each model takes, medians", title_justify="left")
    columns: dict[str, Callable[[Loaded], float]] = {
        "ready at": lambda loaded: loaded.at_s,
        "read": lambda loaded: loaded.read_s,
        "compile": lambda loaded: loaded.compile_s,
        "warm up": lambda loaded: loaded.warm_up_s,
    }
    for heading in ("model", *columns):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for loaded in starts.first.models:
        medians = (starts.median_of_s(loaded.model, seconds_of) for seconds_of in columns.values())
        table.add_row(loaded.model, *map(duration, medians))
    return table
