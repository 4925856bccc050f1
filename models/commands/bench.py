"""`lmht bench`: engines of one network, interleaved. `http` and `costs` are commands below it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from models import bundle as bundles
from models.bench import report
from models.bench.harness import Alternative, Comparison, compare
from models.bundle import Bundle, BundleError
from models.commands.bench_costs import costs
from models.commands.bench_http import http
from models.commands.progress import console
from models.cpu import available_threads
from models.machine import describe_machine
from models.tools import Tools

EAGER = "PyTorch, eager, float32"
CPU_FLOAT32 = "ONNX Runtime CPU provider, float32"

bench = typer.Typer(add_completion=False)
bench.command()(http)
bench.command()(costs)


@bench.callback(invoke_without_command=True)
def engines(
    context: typer.Context,
    folder: Annotated[Path, typer.Option("--bundle", help="Folder of a bundle.")] = bundles.ZOO / "mnist" / "1",
    timesteps: Annotated[int | None, typer.Option(min=1, help="The budget; the largest unless given.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images a run.")] = 8,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of each engine; all cores unless given.")] = None,
    rounds: Annotated[int, typer.Option(min=3, help="Interleaved rounds.")] = 50,
    json: Annotated[Path | None, typer.Option(help="Write the measurements to this file.")] = None,
) -> None:
    """Compare the serving engine with ONNX Runtime's CPU provider in float32 and with the eager PyTorch network."""
    if context.invoked_subcommand is not None:
        return
    tools: Tools = context.obj
    threads = threads or available_threads()
    try:
        bundle = bundles.load(folder)
        budget = bundle.manifest.budget(timesteps or bundle.manifest.timesteps[-1])
        if budget is None:
            raise typer.BadParameter(f"the smallest budget is {bundle.manifest.timesteps[0]}", param_hint="--timesteps")
        with _alternatives(bundle, tools, budget.timesteps, batch, threads) as alternatives:
            title = f"{bundle.manifest.name}, T = {budget.timesteps}, batch {batch}"
            with report.progress(title) as on_round:
                comparison: Comparison = compare(
                    alternatives,
                    baseline=EAGER,
                    title=title,
                    rounds=rounds,
                    on_round=on_round,
                    machine=describe_machine(threads={"each engine": threads}),
                )
    except BundleError as error:
        raise typer.BadParameter(f"{folder}: {error}") from error
    report.print_table(comparison, console)
    if json is not None:
        json.write_text(report.to_json(comparison), encoding="utf-8")


@contextmanager
def _alternatives(
    bundle: Bundle, tools: Tools, timesteps: int, batch: int, threads: int
) -> Iterator[list[Alternative]]:
    """The three ways of running a bundle's network on the same random images."""
    # Not above, so that `lmht bench http` without its large network needs no torch.
    import torch

    from models.evaluation import network_of
    from models.export.exporter import Card, assemble

    manifest = bundle.manifest
    torch.set_num_threads(threads)
    network = network_of(bundle)
    images = np.random.default_rng(0).random((batch, *manifest.input.shape), np.float32)
    tensor = torch.from_numpy(images)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        architecture = manifest.architecture
        card = Card(
            manifest.name,
            manifest.description,
            manifest.classes,
            manifest.input,
            architecture.name,
            dict(architecture.parameters),
            "lmht bench",
        )
        exact = assemble(folder / "1", network, card, "float32")
        engine = stack.enter_context(closing(tools.open_engine(bundle, threads=threads, batch_sizes=(batch,))))
        plain = stack.enter_context(
            closing(tools.open_engine(exact, provider="cpu", threads=threads, batch_sizes=(batch,)))
        )

        def eager() -> None:
            with torch.inference_mode():
                network(tensor, timesteps)

        precision = next(b.precision for b in manifest.budgets if b.timesteps == timesteps)
        yield [
            Alternative(EAGER, eager),
            Alternative(CPU_FLOAT32, lambda: plain.run(images, timesteps)),
            Alternative(f"{engine.name}, {precision} (served)", lambda: engine.run(images, timesteps)),
        ]
