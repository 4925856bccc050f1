"""`lmht bench`: engines of one network, interleaved. Its other subjects are commands below it."""

from __future__ import annotations

import dataclasses
import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from models import bundle as bundles
from models.bench import report
from models.bench.harness import Comparison, compare
from models.bundle import BundleError
from models.commands import bench_gpu
from models.commands.bench_bodies import bodies
from models.commands.bench_costs import costs
from models.commands.bench_http import http
from models.commands.bench_kernels import kernels
from models.commands.bench_metering import metering
from models.commands.bench_overload import overload
from models.commands.bench_start import start
from models.commands.progress import bar, console
from models.commands.shared import numbers
from models.cpu import available_threads
from models.machine import describe_machine
from models.tools import DeviceName, Tools

if TYPE_CHECKING:
    from models.bench.engines import Case
    from models.bench.memory import Growth
    from models.export.lowering import Precision
    from models.networks import Network

_RESNET18 = "resnet18"
# Options by the names of their parameters: what chooses a network, and what chooses cases.
_CPU_ONLY = {
    "folder": "--bundle",
    "architecture": "--architecture",
    "parameters": "--parameters",
    "tgim": "--tgim",
    "threads": "--threads",
}
_CUDA_ONLY = {"case": "--case", "limit": "--limit-s", "names": "--list"}

bench = typer.Typer(add_completion=False)
bench.command()(http)
bench.command()(bodies)
bench.command()(costs)
bench.command()(kernels)
bench.command()(metering)
bench.command()(overload)
bench.command()(start)


@bench.callback(invoke_without_command=True)
def engines(
    context: typer.Context,
    folder: Annotated[
        Path | None, typer.Option("--bundle", help="Folder of a bundle. Without it, random weights.")
    ] = None,
    architecture: Annotated[str, typer.Option(help="Network with random weights, for 3×32×32 pictures.")] = _RESNET18,
    parameters: Annotated[str, typer.Option(help="JSON object of that architecture's own parameters.")] = "{}",
    tgim: Annotated[str, typer.Option(help="T-GIMs of that network, separated by commas.")] = "full,factored",
    timesteps: Annotated[
        str | None,
        typer.Option(
            help="Budgets, separated by commas.", show_default=f"1,4,8; a bundle's own; with cuda {bench_gpu.TIMESTEPS}"
        ),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(help="Images a run, separated by commas.", show_default=f"1,8; with cuda {bench_gpu.BATCHES}"),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of each engine; all cores unless given.")] = None,
    rounds: Annotated[int, typer.Option(min=3, help="Interleaved rounds.")] = 20,
    json: Annotated[
        Path | None,
        typer.Option(help="Write the measurements to this file.", show_default=f"none; with cuda {bench_gpu.FILE}"),
    ] = None,
    to: Annotated[Path | None, typer.Option("--report", help="Write the tables to this file, Markdown.")] = None,
    device: Annotated[DeviceName, typer.Option(help="What runs them; everything below is for cuda.")] = "cpu",
    case: Annotated[
        list[str] | None, typer.Option(help="Only cases of this name, * for any part; may be repeated.")
    ] = None,
    limit: Annotated[float, typer.Option("--limit-s", help="No case is begun after so many seconds.")] = 420,
    names: Annotated[bool, typer.Option("--list", help="Only list the cases.")] = False,
) -> None:
    """Compare the serving engine with the eager PyTorch network, ONNX Runtime in float32, and an 8-bit ReLU network.

    With --device cuda, on a GPU: ResNet-18 and VGG-13 by the fused kernels, by eager PyTorch, by torch.compile, and as
    a plain ReLU network. A run that ends before all cases are measured goes on when it is called again with the same
    file.
    """
    if context.invoked_subcommand is not None:
        return
    for name, option in (_CPU_ONLY if device == "cuda" else _CUDA_ONLY).items():
        source = context.get_parameter_source(name)
        if source is None or source.name != "DEFAULT":
            raise typer.BadParameter(f"does not go with --device {device}", param_hint=option)
    if device == "cuda":
        bench_gpu.gpu(
            case,
            bench_gpu.steps(timesteps),
            numbers(batch or bench_gpu.BATCHES, "--batch"),
            rounds=rounds,
            limit_s=limit,
            json=json or bench_gpu.FILE,
            to=to,
            only_list=names,
        )
        return
    from models.bench import engines as measured
    from models.bench.memory import growth
    from models.export.lowering import lower
    from models.export.trace import trace

    tools: Tools = context.obj
    threads = threads or available_threads()
    batches = numbers(batch or "1,8", "--batch")
    title, networks, budgets, shape, precision = _subject(folder, architecture, parameters, tgim, timesteps)
    cases = [measured.Case(kind, t, size) for kind in networks for t in budgets for size in batches]
    alternatives = []
    with bar(f"compiling {title}", len(cases) * len(measured.KINDS)) as advance:
        for alternative in measured.alternatives(networks, shape, cases, tools.open_graph, threads, precision):
            alternatives.append(alternative)
            advance(1)
    with report.progress(title) as on_round:
        comparison = compare(
            alternatives,
            baseline=alternatives[0].name,
            title=title,
            rounds=rounds,
            on_round=on_round,
            machine=describe_machine(threads={"each engine": threads}),
        )
    graphs = [(k, lower(trace(n, budgets[-1], shape), precision)) for k, n in networks.items()]
    memory = growth(graphs, batches, shape, tools.open_graph, threads)
    _print(comparison, cases, memory)
    if json is not None:
        document = report.document(comparison)
        document["ratios"] = [
            dataclasses.asdict(case)
            | {"ratios": {k: dataclasses.asdict(v) for k, v in measured.ratios(comparison, case, cases).items()}}
            for case in cases
        ]
        document["memory"] = [dataclasses.asdict(grown) for grown in memory]
        json.write_text(json_format.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if to is not None:
        to.write_text(_markdown(comparison, cases, memory), encoding="utf-8")


def _subject(
    folder: Path | None, architecture: str, parameters: str, tgim: str, timesteps: str | None
) -> tuple[str, dict[str, Network], list[int], tuple[int, int, int], Precision]:
    """Title, networks by their T-GIM, budgets, shape of an image, precision of what serves."""
    from models.bench import random_network
    from models.bench.random_network import TGIMS
    from models.evaluation import network_of

    if folder is not None:
        try:
            bundle = bundles.load(folder)
            network = network_of(bundle)
        except BundleError as error:
            raise typer.BadParameter(f"{folder}: {error}", param_hint="--bundle") from error
        manifest = bundle.manifest
        budgets = list(manifest.timesteps) if timesteps is None else numbers(timesteps, "--timesteps")
        if missing := set(budgets) - set(manifest.timesteps):
            raise typer.BadParameter(
                f"the bundle has no budget of {min(missing)}; there are {', '.join(map(str, manifest.timesteps))}",
                param_hint="--timesteps",
            )
        return manifest.name, {manifest.tgim: network}, budgets, manifest.input.shape, manifest.budgets[0].precision
    budgets = numbers(timesteps or "1,4,8", "--timesteps")
    try:
        own = json_format.loads(parameters)
        if not isinstance(own, dict):
            raise ValueError("the parameters are no JSON object")
        networks: dict[str, Network] = {}
        for kind in tgim.split(","):
            if kind not in TGIMS:
                raise ValueError(f"there is no T-GIM {kind!r}, only {' and '.join(TGIMS)}")
            networks[kind] = random_network.network(architecture, kind, budgets, own)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return f"{architecture}, random weights", networks, budgets, (3, 32, 32), "int8"


def _print(comparison: Comparison, cases: list[Case], memory: list[Growth]) -> None:
    for title, (header, rows) in _tables(comparison, cases, memory, separator="\n").items():
        table = Table(title=title, title_justify="left", padding=(0, 0))
        for index, column in enumerate(header):
            table.add_column(column, justify="right" if index else "left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for line in (report.method(comparison), *report.machine_lines(comparison.machine)):
        console.print(line, style="dim")


def _markdown(comparison: Comparison, cases: list[Case], memory: list[Growth]) -> str:
    lines = [f"# {comparison.title}", ""]
    for title, (header, rows) in _tables(comparison, cases, memory, separator=" ").items():
        lines += [f"{title}:", "", *report.table(header, rows), ""]
    lines += [report.method(comparison), "", *(f"* {line}" for line in report.machine_lines(comparison.machine))]
    return "\n".join(lines) + "\n"


def _tables(
    comparison: Comparison, cases: list[Case], memory: list[Growth], separator: str
) -> dict[str, tuple[list[str], list[list[str]]]]:
    """Header and rows by title; ``separator`` stands between a ratio and its interval."""
    from models.bench import engines as measured

    medians = {m.name: m.median_s for m in comparison.measurements}

    def milliseconds(kind: str, case: Case) -> str:
        seconds = medians.get(measured.name(kind, case))
        return "–" if seconds is None else report.digits(1000 * seconds)

    ratios = {case: measured.ratios(comparison, case, cases) for case in cases}
    columns = list(dict.fromkeys(title for of_case in ratios.values() for title in of_case))

    def cell(case: Case, title: str) -> str:
        found = ratios[case].get(title)
        return "–" if found is None else report.interval(found).replace(" [", f"{separator}[")

    return {
        "Milliseconds, medians": (
            ["", *measured.KINDS],
            [[str(case), *(milliseconds(kind, case) for kind in measured.KINDS)] for case in cases],
        ),
        "The engine": (["", *columns], [[str(case), *(cell(case, title) for title in columns)] for case in cases]),
        "Resident memory of a compiled graph": _memory(memory),
    }


def _memory(memory: list[Growth]) -> tuple[list[str], list[list[str]]]:
    rows = [[g.name, str(g.batch), f"{g.file_bytes / 1e6:.1f}", f"{g.grown_bytes / 1e6:.1f}"] for g in memory]
    return ["T-GIM", "batch", "file, MB", "grown, MB"], rows
