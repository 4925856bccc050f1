"""`lmht bench metering`: what metrics cost."""

from __future__ import annotations

import json as json_format
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from models.bench.http import cores as placing
from models.bench.http import metering as measured
from models.bench.http import wrk
from models.bench.http.errors import BenchError
from models.bench.http.metering import Metering
from models.bench.report import duration, interval, machine_lines
from models.commands.progress import console
from models.machine import Machine, describe_machine

_VERDICTS = {True: "met", False: "missed", None: "cannot be told, since stretches that do the same differ as much"}


def metering(
    seconds: Annotated[int, typer.Option(min=1, help="How long the server is under load.")] = 120,
    connections: Annotated[int, typer.Option(min=1, help="Connections that keep it busy.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Of the intervals.")] = 0,
    json: Annotated[Path | None, typer.Option(help="Write the measurements to this file.")] = None,
) -> None:
    """Measure what metrics take of a small model's requests: a server counts for some of them and not for the next.

    It runs on one core, wrk on another. At most 2 % of throughput is the goal.
    """
    machine = describe_machine(threads={"server": 1, "wrk": 1})
    try:
        cores = placing.choose()
        generator = wrk.find(cores.client)
        with tempfile.TemporaryDirectory() as folder, console.status(f"{seconds} s of load"):
            found = measured.measure(
                generator, cores, Path(folder), connections=connections, seconds=seconds, seed=seed
            )
    except BenchError as error:
        typer.secho(f"lmht: {error}", err=True, fg=typer.colors.RED)
        raise typer.Exit(1) from error
    finding = found.finding
    for line in (
        f"{finding.text}: {interval(finding.ratio)}; at most {finding.goal:.4g}: {_VERDICTS[finding.met]}",
        f"the same of stretches that do the same: {interval(found.noise)}",
        f"one that is not: {duration(found.request_s)}; {found.rate:,.0f} requests a second, {connections} connections",
        f"{len(found.fours)} fours of stretches; median ratios with 95 % bootstrap intervals; seed {seed}",
        *machine_lines(machine),
    ):
        console.print(line, markup=False, highlight=False)
    if json is not None:
        json.write_text(_json(found, machine), encoding="utf-8")


def _json(found: Metering, machine: Machine) -> str:
    finding = found.finding
    document = {
        "finding": {**asdict(finding.ratio), "goal": finding.goal, "met": finding.met},
        "noise": asdict(found.noise),
        "request_s": found.request_s,
        "rate": found.rate,
        "fours_s": found.fours,
        "machine": asdict(machine),
    }
    return json_format.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
