"""`lmht bench kernels`: the GPU kernels against what they replace."""

from __future__ import annotations

import fnmatch
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from models.commands.progress import console
from models.commands.shared import numbers
from models.machine import describe_machine


def kernels(
    case: Annotated[
        list[str] | None, typer.Option(help="Only cases of this name, * for any part; may be repeated.")
    ] = None,
    timesteps: Annotated[str, typer.Option(help="T, separated by commas.")] = "1,2,4,8",
    batch: Annotated[str, typer.Option(help="Images of a layer's case, separated by commas.")] = "8,64,256",
    rounds: Annotated[int, typer.Option(min=3, help="Interleaved rounds of each case.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of the numbers and of the order in the rounds.")] = 0,
    limit: Annotated[float, typer.Option("--limit-s", help="No case is begun after so many seconds.")] = 420,
    json: Annotated[Path, typer.Option(help="File of the measurements; what is in it is not measured again.")] = Path(
        "kernels.json"
    ),
    to: Annotated[Path | None, typer.Option("--report", help="Write the tables to this file, Markdown.")] = None,
    names: Annotated[bool, typer.Option("--list", help="Only list the cases.")] = False,
    tune: Annotated[
        bool,
        typer.Option(help="Only measure tiles of the chosen layers, and print the best for models/kernels/configs.py."),
    ] = False,
    resources: Annotated[
        bool, typer.Option(help="Only compile, and print registers and what they did not hold; needs no GPU.")
    ] = False,
) -> None:
    """Measure the neuron and every distinct layer of a ResNet-18 on a GPU: fused, by cuDNN, and eager.

    A run that ends before all cases are measured goes on when it is called again with the same file.
    """
    from models.bench.kernels.cases import all_cases

    steps, batches = numbers(timesteps, "--timesteps"), numbers(batch, "--batch")
    if not set(steps) <= set(range(1, 9)):
        raise typer.BadParameter("the kernels run 1 to 8 time-steps", param_hint="--timesteps")
    wanted = [each for each in all_cases(steps, batches) if _chosen(each.name, case)]
    if not wanted:
        raise typer.BadParameter(f"no case is named {' or '.join(case or ())}: --list lists them", param_hint="--case")
    if names:
        for each in wanted:
            console.print(each.name, highlight=False)
        return
    if resources:
        _print_resources(steps)
        return
    from models.bench.kernels.alternatives import calls
    from models.bench.kernels.gpu import NoGpu, Replay, describe
    from models.bench.kernels.report import markdown
    from models.bench.kernels.study import Study, StudyError

    try:
        machine = describe_machine(devices=[describe()])
        study = Study(json, machine)
    except (NoGpu, StudyError) as error:
        typer.secho(f"lmht: {error}", err=True, fg=typer.colors.RED)
        raise typer.Exit(1) from error

    if tune:
        from models.bench.kernels.tune import best_configs

        for row in best_configs(wanted, seed=seed):
            console.print(row, highlight=False)
        return
    began = time.monotonic()
    missing = study.missing(wanted)
    for done, each in enumerate(missing):
        if time.monotonic() - began > limit:
            break
        console.print(f"{done + 1}/{len(missing)} {each.name}", highlight=False)
        study.measure(
            each,
            lambda each: {name: Replay(work).seconds for name, work in calls(each, seed).items()},
            rounds=rounds,
            seed=seed,
        )
    left = len(study.missing(wanted))
    tables = markdown(study.comparisons, wanted, machine.devices[0], f"lmht {' '.join(sys.argv[1:])}")
    console.print(tables, markup=False, highlight=False, soft_wrap=True)
    if to is not None:
        to.write_text(tables, encoding="utf-8")
    if left:
        console.print(f"{left} cases are left: call it again with --json {json}", highlight=False)


def _chosen(name: str, patterns: list[str] | None) -> bool:
    return not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


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
