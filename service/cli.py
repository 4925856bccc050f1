"""The command ``lmht``.

On top of everything: it mounts the commands that the other packages define, and imports what a command needs only when
it is called, so that help is quick and serving needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NoReturn

import typer

from models.bundle import Bundle, Engine
from models.tools import Run, Tools
from service.lazy_group import LazyCommand, LazyGroup

# Distributions of the extra "train", by the module whose absence shows that it is not installed.
_TRAIN_MODULES = frozenset({"matplotlib", "mlxtend", "onnx", "safetensors", "scipy", "torch"})


def _of_models(command: str, text: str, module: str = "") -> LazyCommand:
    return LazyCommand(f"models.commands.{module or command}", module or command, text)


class _Commands(LazyGroup):
    lazy: ClassVar[Mapping[str, LazyCommand]] = {
        "train": _of_models("train", "Train a model on all of its budgets together."),
        "evaluate": _of_models("evaluate", "Recompute the accuracies in a bundle's manifest."),
        "export": _of_models("export", "Write a trained model as a bundle."),
        "import": _of_models("import", "Write a checkpoint of the authors' code as a bundle.", "import_"),
        "plot": _of_models("plot", "Plot accuracy against time-steps, spikes, energy and latency."),
        "stress": _of_models("stress", "Accuracy of each budget on easier and harder pictures of two-digit numbers."),
        "cascade": _of_models("cascade", "What min_confidence saves at the accuracy of every fixed budget."),
        "reproduce": _of_models("reproduce", "Train and measure what the LM-HT paper compares, and write a report."),
        "bench": _of_models("bench", "Measure the engine against its alternatives."),
        "simulate": LazyCommand(
            "service.simulation.command", "simulate", "Show what the scheduler does under load, on a simulated clock."
        ),
    }


app = typer.Typer(cls=_Commands, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def top(context: typer.Context) -> None:
    """LM-HT Serve: classification with spiking networks and a selectable time-step budget."""
    context.obj = Tools(open_engine=_open_engine, open_graph=_open_graph)


@app.command()
def serve(
    models: Annotated[
        list[Path] | None,
        typer.Option(help="Repository folder; may be repeated. [env: LMHT_MODELS, default: the bundled models]"),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. [env: LMHT_HOST, default: 127.0.0.1]")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; 0 takes a free one. [env: LMHT_PORT or PORT, default: 8000]")
    ] = None,
) -> None:
    """Serve models over HTTP. Everything else is set by LMHT_* variables: see service/README.md."""
    from service.server import ServerError, run
    from service.settings import SettingsError, read_settings

    try:
        run(read_settings(models=models or None, host=host, port=port))
    except (SettingsError, ServerError) as error:
        _fail(str(error))


@app.command()
def classify(
    files: Annotated[list[Path], typer.Argument(help="Pictures.", exists=True, dir_okay=False, readable=True)],
    timesteps: Annotated[
        str | None, typer.Option(help="Time-step budget, or auto. [default: the model's largest]")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model to ask. [default: the first one served]")] = None,
    url: Annotated[str | None, typer.Option(help="Ask the server at this address instead of classifying here.")] = None,
    models: Annotated[list[Path] | None, typer.Option(help="Repository folder, without --url.")] = None,
    top_k: Annotated[int | None, typer.Option(help="How many classes to list. [default: 5]")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Classify pictures, here or by a server."""
    from service import local, report
    from service.client import Client, ClientError
    from service.problems import Problem
    from service.settings import SettingsError, read_settings

    if timesteps is not None and timesteps != "auto" and not timesteps.isdecimal():
        raise typer.BadParameter(f"{timesteps!r} is neither a whole number nor auto", param_hint="--timesteps")
    budget: int | Literal["auto"] | None = None
    if timesteps is not None:
        budget = "auto" if timesteps == "auto" else int(timesteps)
    images = [file.read_bytes() for file in files]
    try:
        if url is None:
            settings = read_settings(models=models or None)
            answer = local.classify(settings, images, model=model, timesteps=budget, top_k=top_k)
        else:
            with Client(url) as client:
                if model is None:
                    model = local.first([served.name for served in client.models().models])
                answer = client.classify(model, images, timesteps=budget, top_k=top_k)
    except Problem as error:
        _fail(f"{error.title}: {error.detail}")
    except (ClientError, SettingsError, local.NoModel) as error:
        _fail(str(error))
    if json:
        typer.echo(answer.model_dump_json(indent=2, exclude_unset=True))
    else:
        report.show(answer, [file.name for file in files])


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
) -> Engine:
    from service.engines import DEFAULTS, EngineOptions, open_engine

    options = EngineOptions(threads=threads, batch_sizes=batch_sizes or DEFAULTS.batch_sizes, provider=provider)
    return open_engine(bundle, options)


def _open_graph(
    graph: bytes, *, batch: int, threads: int, provider: Literal["auto", "openvino", "cpu"] = "auto"
) -> Run:
    from service.engines.sessions import choose_provider, open_session

    session = open_session(graph, choose_provider(provider), batch=batch, threads=threads)
    return lambda images: session.run(None, {"images": images})


def _fail(message: str) -> NoReturn:
    typer.secho(f"lmht: {message}", err=True, fg=typer.colors.RED)
    raise typer.Exit(1)
