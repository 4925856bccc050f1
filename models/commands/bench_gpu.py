"""`lmht bench --device cuda`: whole networks on a GPU, by the fused kernels and by what else there is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from models.commands.progress import console
from models.commands.shared import chosen, numbers
from models.machine import describe_machine

if TYPE_CHECKING:
    from models.bench.gpu.cases import Case

TIMESTEPS, BATCHES = "1,2,4,8", "1,8,64,256"
FILE = Path("gpu.json")


def steps(timesteps: str | None) -> list[int]:
    """Budgets of a command's option, or all. Raises BadParameter."""
    found = numbers(timesteps or TIMESTEPS, "--timesteps")
    if not set(found) <= set(range(1, 9)):
        raise typer.BadParameter("the kernels run 1 to 8 time-steps", param_hint="--timesteps")
    return found


def gpu(
    patterns: list[str] | None,
    timesteps: list[int],
    batches: list[int],
    *,
    rounds: int,
    limit_s: float,
    json: Path,
    to: Path | None,
    only_list: bool,
    seed: int = 0,
) -> None:
    """Measure the cases whose names match, and go on with what the file has; see `models.commands.bench.engines`."""
    from models.bench.gpu.cases import all_cases

    wanted = [case for case in all_cases(timesteps, batches) if chosen(case.name, patterns)]
    if not wanted:
        raise typer.BadParameter(
            f"no case is named {' or '.join(patterns or ())}: --list lists them", param_hint="--case"
        )
    if only_list:
        for case in wanted:
            console.print(case.name, highlight=False)
        return
    from models.bench.cuda import NoGpu, describe
    from models.bench.gpu.alternatives import Networks, makers
    from models.bench.gpu.device import CudaDevice
    from models.bench.gpu.measuring import measured
    from models.bench.gpu.report import markdown
    from models.bench.study import Study, StudyError

    try:
        machine = describe_machine(devices=[describe()])
        study = Study(json, machine, "lmht bench gpu")
    except (NoGpu, StudyError) as error:
        typer.secho(f"lmht: {error}", err=True, fg=typer.colors.RED)
        raise typer.Exit(1) from error
    device, networks = CudaDevice(), Networks(timesteps, seed)

    def measure(case: Case) -> dict[str, Any]:
        try:
            works = makers(case, networks, device)
            return measured(case.name, works, device, machine, batch=case.batch, rounds=rounds, seed=seed)
        finally:
            device.forget()
            device.release()

    left = study.go_on(wanted, measure, limit_s=limit_s, on_case=lambda line: console.print(line, highlight=False))
    tables = markdown(study.found, wanted, machine.devices[0], f"lmht {' '.join(sys.argv[1:])}")
    console.print(tables, markup=False, highlight=False, soft_wrap=True)
    if to is not None:
        to.write_text(tables, encoding="utf-8")
    if left:
        console.print(f"{left} cases are left: call it again with --json {json}", highlight=False)
