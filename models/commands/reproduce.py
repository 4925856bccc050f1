"""`lmht reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from models.commands.progress import console, new
from models.cpu import available_threads
from models.data import dataset
from models.machine import describe_machine
from models.reproduction import report
from models.reproduction.plan import STUDIES, plan
from models.reproduction.run import carry_out_all
from models.tools import Tools

# Pictures of an epoch and of the test, with --quick.
_QUICK = 64
SEEDS = 3


def reproduce(
    context: typer.Context,
    data: Annotated[str, typer.Option(help=f"Data set: {', '.join(STUDIES)}.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the data; for the CIFAR sets.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Networks of each kind.")] = SEEDS,
    jobs: Annotated[int | None, typer.Option(min=1, help="Networks at a time; all cores unless given.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the networks.", show_default="runs/reproduce-DATA")
    ] = None,
    to: Annotated[Path | None, typer.Option("--report", help="The report, Markdown.", show_default="in OUTPUT")] = None,
    quick: Annotated[
        bool, typer.Option(help=f"One seed, one epoch of {_QUICK} pictures: shows that it runs, nothing else.")
    ] = False,
) -> None:
    """Train and measure all methods that the paper compares, and write the report; called again, it goes on."""
    tools: Tools = context.obj
    study = STUDIES.get(data)
    if study is None:
        raise typer.BadParameter(f"unknown study {data!r}; there are {', '.join(STUDIES)}", param_hint="--data")
    try:
        dataset(data).check_root(root)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--root") from error
    seeds = 1 if quick else seeds
    jobs = jobs or available_threads()
    experiments = plan(study, seeds, _QUICK if quick else None)
    folder = output or Path("runs") / f"reproduce-{data}{'-quick' if quick else ''}"
    results = []
    with new() as progress:
        task = progress.add_task(f"{len(experiments)} networks", total=sum(e.work for e in experiments))
        try:
            for experiment, result in carry_out_all(experiments, folder, tools.open_engine, jobs=jobs, root=root):
                results.append(result)
                accuracy = "  ".join(f"T={m.timesteps} {m.accuracy:.1%}" for m in result.budgets)
                progress.print(f"{result.experiment}: {accuracy}")
                progress.advance(task, experiment.work)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        except KeyboardInterrupt:
            console.print("interrupted; the same command goes on from the last whole epoch")
            raise
    path = to or folder / "report.md"
    command = f"lmht reproduce --data {data}" + (" --quick" if quick else "")
    report.write(path, study, results, command, describe_machine(threads={"each network": 1}))
    console.print(f"{path} is the report on {len(results)} networks")
