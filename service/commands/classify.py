"""`lmht classify`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Literal

import typer

from service import report
from service.client import Classification, ClassifyOptions, ClientError
from service.commands import files, many, sources
from service.commands.ending import fail
from service.commands.sources import Source, SourceError, words

# A request of many pictures to a large network takes longer than one that somebody waits for.
_FEW_TIMEOUT_S, _MANY_TIMEOUT_S = 30.0, 300.0


def classify(
    paths: Annotated[list[Path], typer.Argument(help="Pictures, and folders of them.", exists=True, readable=True)],
    timesteps: Annotated[
        str | None, typer.Option(help="Time-step budget, or auto.", show_default="the model's largest")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model to ask.", show_default="the first one served")] = None,
    version: Annotated[int | None, typer.Option(min=0, help="Its version.", show_default="the highest")] = None,
    url: Annotated[str | None, typer.Option(help="Ask the server at this address instead of classifying here.")] = None,
    models: Annotated[list[Path] | None, typer.Option(help="Repository folder, without --url.")] = None,
    top_k: Annotated[int | None, typer.Option(help="How many classes to list.", show_default="5")] = None,
    min_confidence: Annotated[
        float | None, typer.Option(help="Run again at a larger budget what is less certain than this, 0 to 1.")
    ] = None,
    deadline_ms: Annotated[float | None, typer.Option(help="Milliseconds that each request may take.")] = None,
    energy_profile: Annotated[str | None, typer.Option(help="Prices of operations; see the model's card.")] = None,
    api_key: Annotated[str | None, typer.Option(envvar="LMHT_API_KEY", help="API key for the server.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON; of a folder, a document a line.")] = False,
    csv: Annotated[
        Path | None,
        typer.Option(
            help="Write a row for each picture to this file; - is standard output.",
            allow_dash=True,
            show_default="- for a folder, without --json",
        ),
    ] = None,
) -> None:
    """Classify pictures, here or by a server.

    Of a folder, every picture in it and below gets a row of CSV, or a line of JSON.
    With a labels.csv in the folder (columns file and label) the accuracy is told as well.
    """
    if json and csv == many.STDOUT:
        raise typer.BadParameter("standard output takes either --json or --csv -", param_hint="--csv")
    options: ClassifyOptions = {
        "timesteps": _budget(timesteps),
        "top_k": top_k,
        "min_confidence": min_confidence,
        "deadline_ms": deadline_ms,
        "energy_profile": energy_profile,
    }
    folders = [path for path in paths if path.is_dir()]
    are_many = bool(folders) or csv is not None
    try:
        with _source(url, api_key, models or (), are_many=are_many) as source:
            chosen = model or sources.first(source.models())

            def ask(images: Sequence[bytes]) -> Classification:
                return source.classify(chosen, images, version=version, **options)

            if are_many:
                many.classify(ask, files.pictures(paths), files.labels(folders), csv=csv, json=json)
            else:
                _show(ask([path.read_bytes() for path in paths]), paths, json=json)
    except ClientError as error:
        fail(words(error))
    except (SourceError, files.FilesError) as error:
        fail(str(error))


def _budget(text: str | None) -> int | Literal["auto"] | None:
    if text is None:
        return None
    if text == "auto":
        return "auto"
    if not text.isdecimal():
        raise typer.BadParameter(f"{text!r} is neither a whole number nor auto", param_hint="--timesteps")
    return int(text)


def _source(
    url: str | None, api_key: str | None, models: Sequence[Path], *, are_many: bool
) -> AbstractContextManager[Source]:
    if url is not None:
        return sources.server(url, api_key, _MANY_TIMEOUT_S if are_many else _FEW_TIMEOUT_S)
    # For one request, compiling larger buckets takes longer than doing without them.
    return sources.here(models, None if are_many else (1,))


def _show(answer: Classification, paths: Sequence[Path], *, json: bool) -> None:
    if json:
        typer.echo(answer.model_dump_json(indent=2, exclude_unset=True))
    else:
        report.show(answer, [path.name for path in paths])
