"""`lmht bench kernels`: the GPU kernels against what they replace."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.commands import bench_gpu
from models.commands.progress import console
from models.commands.shared import chosen, numbers
from models.machine import describe_machine

if TYPE_CHECKING:
    from models.bench.kernels.cases import Case


def kernels(
    case: Annotated[
        list[str] | None, typer.Option(help="Only cases of this name, * for any part; may be repeated.")
    ] = None,
    timesteps: Annotated[str, typer.Option(help="T, separated by commas.")] = "1,2,4,8",
    batch: Annotated[str, typer.Option(help="Images of a layer's case, separated by commas.")] = "8,64,256",
    rounds: Annotated[int, typer.Option(min=3, help="Interleaved rounds of each case.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of the numbers and of the order in the rounds.")] = 0,
    limit: Annotated[float, typer.Option("--limit-s", help="No case is begun after so many seconds.")] = 420,
    json: Annotated[
        Path | None,
        typer.Option(
            help="File of the measurements; what is in it is not measured again.",
            show_default="kernels.json, or tiles.json",
        ),
    ] = None,
    to: Annotated[Path | None, typer.Option("--report", help="Write the tables to this file, Markdown.")] = None,
    names: Annotated[bool, typer.Option("--list", help="Only list the cases.")] = False,
    tune: Annotated[
        bool,
        typer.Option(
            help="Measure tiles of the chosen layers instead, and print the best for models/kernels/configs.py."
        ),
    ] = False,
    resources: Annotated[
        bool, typer.Option(help="Only compile, and print registers and what they did not hold; needs no GPU.")
    ] = False,
) -> None:
    """Measure the neuron and every distinct layer of a ResNet-18 on a GPU: fused, by cuDNN, and eager.

    A run that ends before all cases are measured goes on when it is called again with the same file.
    """
    from models.bench.kernels.cases import all_cases

    steps, batches = bench_gpu.steps(timesteps), numbers(batch, "--batch")
    wanted = [each for each in all_cases(steps, batches) if chosen(each.name, case)]
    if not wanted:
        raise typer.BadParameter(f"no case is named {' or '.join(case or ())}: --list lists them", param_hint="--case")
    if names:
        for each in wanted:
            console.print(each.name, highlight=False)
        return
    if resources:
        _print_resources(steps)
        return
    from models.bench.cuda import NoGpu, describe
    from models.bench.kernels.alternatives import calls
    from models.bench.kernels.gpu import Replay, timer
    from models.bench.kernels.measuring import measured
    from models.bench.kernels.report import markdown
    from models.bench.study import Study, StudyError

    json = json or Path("tiles.json" if tune else "kernels.json")
    try:
        machine = describe_machine(devices=[describe()])
        study = Study(json, machine, "lmht bench kernels --tune" if tune else "lmht bench kernels")
    except (NoGpu, StudyError) as error:
        typer.secho(f"lmht: {error}", err=True, fg=typer.colors.RED)
        raise typer.Exit(1) from error

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    if tune:
        from models.bench.kernels.tune import best, rows, tiles

        rows_wanted = tiles(wanted)
        left = study.go_on(rows_wanted, lambda each: best(each, timer(each, seed)), limit_s=limit, on_case=say)
        for row in rows(study.found, rows_wanted):
            say(row)
        _say_what_is_left(left, json)
        return

    def measure(each: Case) -> dict[str, Any]:
        timers = {name: Replay(work).seconds for name, work in calls(each, seed).items()}
        return measured(each, timers, machine, rounds=rounds, seed=seed)

    left = study.go_on(wanted, measure, limit_s=limit, on_case=say)
    tables = markdown(study.found, wanted, machine.devices[0], f"lmht {' '.join(sys.argv[1:])}")
    say(tables)
    if to is not None:
        to.write_text(tables, encoding="utf-8")
    _say_what_is_left(left, json)


def _say_what_is_left(cases: int, path: Path) -> None:
    if cases:
        console.print(f"{cases} cases are left: call it again with --json {path}", highlight=False)


def _print_resources(timesteps: list[int]) -> None:
    from models.kernels.resources import convolution_resources, neuron_resources

    console.print(f"{'T':>2} {'T-GIM':9} {'kernel':20} registers  spilled B  shared B", highlight=False)
    for steps in timesteps:
        for factored in (False, True):
            found = {"neuron": neuron_resources(steps, factored=factored)}
            for channels, size in ((64, 32), (128, 16), (256, 8), (512, 4)):
                for whole in (True, False):
                    name = f"{channels}×{size}×{size}, {'int8' if whole else 'float16'}"
                    found[name] = convolution_resources(steps, channels, size, 256, factored=factored, whole=whole)
            for name, of in found.items():
                row = f"{steps:2} {'factored' if factored else 'full':9} {name:20}"
                console.print(f"{row} {of.registers:9} {of.spilled:10} {of.shared:9}", highlight=False)
