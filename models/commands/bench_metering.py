"""`lmht bench metering`: what metrics cost."""

from __future__ import annotations

import json as json_format
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from models.bench import report
from models.bench.http import cores as placing
from models.bench.http import metering as measured
from models.bench.http import wrk
from models.bench.http.errors import BenchError
from models.bench.http.metering import Metering
from models.bench.http.plan import Plan
from models.bench.report import interval, progress
from models.commands.progress import console
from models.machine import describe_machine

_VERDICTS = {True: "met", False: "missed", None: "cannot be told, since servers that do the same differ as much"}


def metering(
    rounds: Annotated[int, typer.Option(min=3, help="Interleaved rounds.")] = 40,
    seconds: Annotated[int, typer.Option(min=1, help="How long a server is under load in a round.")] = 2,
    connections: Annotated[int, typer.Option(min=1, help="Connections that keep a server busy.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Of the order in the rounds and of the intervals.")] = 0,
    json: Annotated[Path | None, typer.Option(help="Write the measurements to this file.")] = None,
) -> None:
    """Measure a small model's throughput with metrics and without, where nothing else differs.

    Servers run one at a time on one core, wrk on another. At most 2 % of throughput is the goal.
    """
    try:
        cores = placing.choose()
        generator = wrk.find(cores.client)
        plan = Plan(rounds, seconds, connections, seed, describe_machine(threads={"each server": 1, "wrk": 1}))
        with tempfile.TemporaryDirectory() as folder, progress("metering") as on_round:
            found = measured.measure(generator, cores, Path(folder), plan, on_round)
    except BenchError as error:
        typer.secho(f"lmht: {error}", err=True, fg=typer.colors.RED)
        raise typer.Exit(1) from error
    report.print_table(found.loads.comparison, console)
    finding = found.finding
    console.print(f"{finding.text}: {interval(finding.ratio)}; at most {finding.goal:.4g}: {_VERDICTS[finding.met]}")
    console.print(f"the same of the second server that counts ÷ the first: {interval(found.noise)}")
    console.print(f"processor's time ÷ that of an app that counts nothing: {interval(found.cpu)}")
    console.print(f"the same of the second server that counts ÷ the first: {interval(found.cpu_noise)}")
    if json is not None:
        json.write_text(_json(found), encoding="utf-8")


def _json(found: Metering) -> str:
    finding = found.finding
    document = {
        **report.document(found.loads.comparison),
        "finding": {**asdict(finding.ratio), "goal": finding.goal, "met": finding.met},
        "noise": asdict(found.noise),
        "cpu": {"ratio": asdict(found.cpu), "noise": asdict(found.cpu_noise), "seconds": found.cpu_s},
    }
    return json_format.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
