"""The command ``lmht``.

On top of everything: it mounts the commands that the other packages define, and imports what a command needs only when
it is called, so that help is quick and serving needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import typer

from models.bundle import Bundle, Engine, FloatArray, InputSpec
from models.tools import DeviceName, Run, Tools
from service.commands.ending import fail
from service.lazy_group import LazyCommand, LazyGroup

# Distributions of the extra "train", by the module whose absence shows that it is not installed.
_TRAIN_MODULES = frozenset({"matplotlib", "mlxtend", "onnx", "safetensors", "scipy", "torch"})


def _of_models(command: str, text: str, module: str = "") -> LazyCommand:
    return LazyCommand(f"models.commands.{module or command}", module or command, text, panel="Models")


def _of_service(command: str, text: str, attribute: str = "") -> LazyCommand:
    return LazyCommand(f"service.commands.{command}", attribute or command, text)


class _Commands(LazyGroup):
    lazy: ClassVar[Mapping[str, LazyCommand]] = {
        "classify": _of_service("classify", "Classify pictures, here or by a server."),
        "models": _of_service("models", "Show, load and unload a server's models.", "app"),
        "key": _of_service("key", "Make an API key."),
        "train": _of_models("train", "Train a model on all of its budgets together."),
        "data": _of_models("data", "Write the pictures that a model was measured on, with their labels."),
        "evaluate": _of_models("evaluate", "Recompute the accuracies in a bundle's manifest."),
        "export": _of_models("export", "Write a trained model as a bundle."),
        "import": _of_models("import", "Write a checkpoint of the authors' code as a bundle.", "import_"),
        "reparameterise": _of_models("reparameterise", "Write a bundle with single-threshold spikes, L·T steps."),
        "plot": _of_models("plot", "Plot accuracy against time-steps, spikes, energy and latency."),
        "stress": _of_models("stress", "Accuracy of each budget on easier and harder pictures of two-digit numbers."),
        "cascade": _of_models("cascade", "What min_confidence saves at the accuracy of every fixed budget."),
        "reproduce": _of_models("reproduce", "Train and measure what the LM-HT paper compares, and write a report."),
        "bench": _of_models("bench", "Measure the engine against its alternatives."),
        "tradeoff": LazyCommand(
            "service.tradeoff.command", "tradeoff", "Measure a server's budgets against each other."
        ),
        "simulate": LazyCommand(
            "service.simulation.command", "simulate", "Show what the scheduler does under load, on a simulated clock."
        ),
        "loadtest": LazyCommand("loadtest.command", "app", "Load a running server, and report what it took."),
    }


app = typer.Typer(cls=_Commands, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def top(context: typer.Context) -> None:
    """LM-HT Serve: classification with spiking networks and a selectable time-step budget."""
    context.obj = Tools(open_engine=_open_engine, open_graph=_open_graph, decode=_decode)


@app.command()
def serve(
    models: Annotated[
        list[Path] | None,
        typer.Option(
            help="Repository folder; may be repeated.", show_default="as LMHT_MODELS says, or the bundled models"
        ),
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", show_default="as LMHT_HOST says, or 127.0.0.1")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port; 0 takes a free one.", show_default="as LMHT_PORT or PORT says, or 8000"),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="Where models run: cpu, cuda or auto.", show_default="as LMHT_DEVICE says, or cpu"),
    ] = None,
) -> None:
    """Serve models over HTTP. Everything else is set by LMHT_* variables: see service/README.md."""
    from service.server import ServerError, run
    from service.settings import SettingsError, read_settings

    try:
        run(read_settings(models=models or None, host=host, port=port, device=device))
    except (SettingsError, ServerError) as error:
        fail(str(error))


def main() -> None:
    """Run the command line."""
    try:
        app()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _TRAIN_MODULES or find_spec(missing) is not None:
            raise
        message = f"this command needs {missing}, which is not installed: pip install 'lmht-serve[train]'"
        typer.secho(f"lmht: {message}", err=True, fg=typer.colors.RED)
        raise SystemExit(1) from error


def _open_engine(
    bundle: Bundle,
    *,
    provider: Literal["auto", "openvino", "cpu"] = "auto",
    threads: int | None = None,
    batch_sizes: tuple[int, ...] | None = None,
    device: DeviceName = "cpu",
) -> Engine:
    from service.engines import EngineError, EngineOptions, Unfinished, devices, open_engine

    try:
        chosen = devices.choose(device)
    except EngineError as error:
        fail(str(error))
    options = EngineOptions(
        threads=threads, batch_sizes=batch_sizes or chosen.batch_sizes, provider=provider, device=chosen.name
    )
    engine = open_engine(bundle, options)
    if isinstance(engine, Unfinished):
        engine.complete()
    return engine


def _open_graph(
    graph: bytes, *, batch: int, threads: int, provider: Literal["auto", "openvino", "cpu"] = "auto"
) -> Run:
    from service.engines.cpu.runtimes import choose

    run = choose(provider).open(graph, batch=batch, threads=threads)
    return lambda images: list(run(images).values())


def _decode(picture: bytes, spec: InputSpec) -> FloatArray:
    from service.pictures import open_picture
    from service.problems import Problem
    from service.settings import Settings

    try:
        return open_picture(picture, Settings.model_fields["max_pixels"].default).to_input(spec)
    except Problem as error:
        raise ValueError(error.detail) from error
