"""`lmht bench http`: the service over HTTP, against a minimal FastAPI app and against its own engine."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from models.bench import random_network
from models.bench.http import cores as placing
from models.bench.http import ladder, large, wrk
from models.bench.http.cores import Cores
from models.bench.http.errors import BenchError
from models.bench.http.large import Served
from models.bench.http.plan import Plan
from models.bench.http.report import Report, print_tables, to_json
from models.bench.http.wrk import Wrk
from models.bench.random_network import Tgim
from models.bench.report import progress
from models.bundle import ZOO, BundleError
from models.commands.progress import console
from models.machine import describe_machine
from models.tools import Tools


def http(
    context: typer.Context,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds of each part.")] = 10,
    seconds: Annotated[int, typer.Option(min=1, help="How long a server is under load in a round.")] = 3,
    connections: Annotated[int, typer.Option(min=1, help="Connections that keep a server busy.")] = 16,
    picture: Annotated[
        Path | None,
        typer.Option(help="28×28 PNG to post to mnist. [default: a drawn 7]", exists=True, dir_okay=False),
    ] = None,
    resnet: Annotated[bool, typer.Option(help="Whether to measure a network of ResNet-18's size too.")] = True,
    tgim: Annotated[Tgim, typer.Option(help="T-GIM of that network.")] = "full",
    timesteps: Annotated[int, typer.Option(min=1, help="Budget of that network.")] = 4,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the order in the rounds, of the intervals and of the weights.")
    ] = 0,
    json: Annotated[Path | None, typer.Option(help="Write the measurements to this file.")] = None,
) -> None:
    """Measure what HTTP costs: where a small model's time goes, and what a large one's server keeps of its engine.

    Servers run one at a time on one core, wrk on another. LMHT_ variables reach the product's server.
    """
    tools: Tools = context.obj
    try:
        cores = placing.choose()
        generator = wrk.find(cores.client)
        machine = describe_machine(threads={"each server": 1, "wrk": 1})
        plan = Plan(rounds, seconds, connections, seed, machine)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            found = _measure(plan, cores, generator, picture, (tgim, timesteps) if resnet else None, tools, folder)
    except (BenchError, BundleError) as error:
        typer.secho(f"lmht: {error}", err=True, fg=typer.colors.RED)
        raise typer.Exit(1) from error
    print_tables(found, console)
    if json is not None:
        json.write_text(to_json(found), encoding="utf-8")


def _measure(
    plan: Plan,
    cores: Cores,
    generator: Wrk,
    picture: Path | None,
    resnet: tuple[Tgim, int] | None,
    tools: Tools,
    folder: Path,
) -> Report:
    if picture is None:
        picture = folder / "seven.png"
        picture.write_bytes(ladder.drawn_seven())
    with ladder.ladder(ZOO / ladder.MODEL / "1", picture, generator, cores, folder) as servers:
        with progress(f"{len(servers.urls)} servers, {plan.connections} connections") as on_round:
            busy = servers.busy(plan, on_round)
        with progress("one connection") as on_round:
            alone = servers.alone(plan, on_round)
    served = None if resnet is None else _large(plan, cores, generator, *resnet, tools, folder)
    return Report(plan, cores, generator.version, servers.engine, busy, alone, served)


def _large(plan: Plan, cores: Cores, generator: Wrk, tgim: Tgim, timesteps: int, tools: Tools, folder: Path) -> Served:
    bundle = folder / "large" / random_network.RESNET18 / "1"
    random_network.write_bundle(bundle, tgim, "lmht bench http", (timesteps,), plan.seed)
    with progress(f"{random_network.RESNET18}, {plan.connections} connections") as on_round:
        return large.served(bundle, timesteps, generator, cores, tools.open_engine, folder, plan, on_round)
