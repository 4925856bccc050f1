"""`lmht tradeoff`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from models import cpu, labels
from models.labels import LabelledFile, LabelsError
from service.client import Classification, Client, ClientError, ModelCard
from service.commands.ending import fail
from service.commands.sources import words
from service.tradeoff import report
from service.tradeoff.measure import AUTO, Measured, MeasureError, Way, measure
from service.tradeoff.report import Report
from service.tradeoff.study import rows

_FORMATS = (".png", ".svg")
# A request of many pictures to a large network takes longer than one that somebody waits for.
_TIMEOUT_S = 300.0
_INTERRUPTED = 130  # what a shell expects of a command that Ctrl-C ended


def tradeoff(
    model: Annotated[str, typer.Argument(help="Model of the server.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of pictures with a labels.csv, as lmht data writes it.", show_default="required"),
    ] = None,
    url: Annotated[str, typer.Option(envvar="LMHT_URL", help="The server's address.")] = "http://127.0.0.1:8000",
    api_key: Annotated[str | None, typer.Option(envvar="LMHT_API_KEY", help="API key for the server.")] = None,
    version: Annotated[int | None, typer.Option(min=1, help="The model's version.", show_default="the highest")] = None,
    timesteps: Annotated[
        str | None, typer.Option(help="Budgets with commas between them; auto is one.", show_default="all")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="Most pictures, from all over.", show_default="all")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures a request.")] = 1,
    energy_profile: Annotated[
        str | None, typer.Option(help="Prices of operations; see the model's card.", show_default="the server's")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Plot to write, PNG or SVG.")] = None,
    json: Annotated[Path | None, typer.Option("--json", help="JSON file to write.")] = None,
) -> None:
    """Measure accuracy, latency, spikes and energy of each budget through a running server, and print them.

    Every budget sees the same pictures, interleaved, one request after the other.
    Compared with the smallest: accuracy on the same pictures, and latency, with how sure that is.
    """
    if data is None:
        message = f"the pictures to measure with; 'lmht data {model} --output {model}-test' writes those of its card"
        raise typer.BadParameter(message, param_hint="--data")
    _check(output, json)
    try:
        with Client(url, api_key=api_key, timeout_s=_TIMEOUT_S) as client:
            card = client.card(model, version)
            ways = _ways(timesteps, card)
            pictures = _spread(labels.read(data, card.classes), limit)
            if len(pictures) < max(2, batch):
                fail(f"{data} has {len(pictures)} pictures, which is too few")

            def ask(images: Sequence[bytes], way: Way) -> Classification:
                # Of this version to the end, whatever is loaded meanwhile.
                return client.classify(
                    model, images, version=int(card.version), timesteps=way, energy_profile=energy_profile
                )

            with _bar(f"measuring {card.name}", len(ways) * -(-len(pictures) // batch)) as advance:
                measured = measure(ask, pictures, ways, batch=batch, on_request=advance)
    except KeyboardInterrupt:
        typer.secho("lmht: interrupted; what was measured so far is not shown", err=True, fg=typer.colors.RED)
        raise typer.Exit(_INTERRUPTED) from None
    except ClientError as error:
        fail(words(error))
    except (LabelsError, MeasureError) as error:
        fail(str(error))
    made = _report(card, measured, url=url, data=data, pictures=len(pictures), batch=batch)
    _print(made, card)
    _write(made, output, json)


def _check(output: Path | None, json: Path | None) -> None:
    """Whether what is measured can be written, before it is. Raises BadParameter."""
    for option, path in (("--output", output), ("--json", json)):
        if path is not None and not path.absolute().parent.is_dir():
            raise typer.BadParameter(f"there is no folder {path.parent}", param_hint=option)
    if output is not None:
        if output.suffix.lower() not in _FORMATS:
            raise typer.BadParameter(f"{output} is none of {', '.join(_FORMATS)}", param_hint="--output")
        import models.panels  # noqa: F401  # matplotlib comes with an extra only


def _ways(text: str | None, card: ModelCard) -> list[Way]:
    """Budgets ascending, then `AUTO`. Raises BadParameter for one that the model has not."""
    budgets = [budget.timesteps for budget in card.budgets]
    if text is None:
        return [*budgets]
    names = {name.strip() for name in text.split(",")}
    if unknown := sorted(names - {AUTO, *map(str, budgets)}):
        there_are = ", ".join(map(str, budgets))
        raise typer.BadParameter(
            f"no budget {', '.join(map(repr, unknown))}; there are {there_are}, and {AUTO}", param_hint="--timesteps"
        )
    return [*(budget for budget in budgets if str(budget) in names), *([AUTO] if AUTO in names else [])]


def _spread(pictures: Sequence[LabelledFile], limit: int | None) -> Sequence[LabelledFile]:
    """At most ``limit`` of them, from all over: they may be ordered by class."""
    return pictures if limit is None else pictures[:: -(-len(pictures) // limit)]


@contextmanager
def _bar(title: str, total: int) -> Iterator[Callable[[], None]]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda: progress.advance(task)


def _report(card: ModelCard, measured: Measured, *, url: str, data: Path, pictures: int, batch: int) -> Report:
    return Report(
        model=card.name,
        version=card.version,
        url=url,
        engine=measured.engine,
        data=str(data),
        pictures=pictures,
        batch=batch,
        energy_profile=measured.profile,
        energy_note=measured.note,
        shared=measured.shared,
        client_cpu=cpu.model_name(),
        client_cores=cpu.available_threads(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        budgets=rows(measured, card),
    )


def _print(made: Report, card: ModelCard) -> None:
    console = Console()
    console.print(made.title, style="bold", highlight=False)
    for table in report.tables(made):
        console.print(table)
    for note in report.notes(made, card):
        console.print(note, style="dim", markup=False, highlight=False)


def _write(made: Report, output: Path | None, json: Path | None) -> None:
    try:
        if json is not None:
            json.write_text(report.to_json(made), encoding="utf-8")
        if output is not None:
            report.draw(made, output)
    except OSError as error:
        fail(str(error))
