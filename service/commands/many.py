"""Many pictures for `lmht classify`: a progress bar, a row each, a summary."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from service.client import Classification, ClientError
from service.commands.ending import fail
from service.commands.rows import CsvWriter, JsonWriter, Summary, Writer
from service.commands.sending import Sender
from service.commands.sources import words

STDOUT = Path("-")
_INTERRUPTED = 130  # what a shell expects of a command that Ctrl-C ended


def classify(
    ask: Callable[[Sequence[bytes]], Classification],
    found: Sequence[Path],
    labels: Mapping[Path, str],
    *,
    csv: Path | None,
    json: bool,
) -> None:
    """Ask about all of them; JSON goes to standard output, CSV to ``csv``, and where neither is wanted there too.

    Exits with 1 where a picture failed, or once nobody answers; whatever happens, rows that are there are written.
    """
    summary = Summary(labels)
    status, complaint = 0, ""
    with ExitStack() as stack:
        # Before the bar, which takes print's output to standard error while it is shown.
        writers = _writers(stack, csv, json)
        advance = stack.enter_context(_bar(len(found), hidden=_fills_terminal(csv, json)))
        try:
            for row in Sender(ask).rows(found):
                for writer in writers:
                    writer.write(row)
                summary.add(row)
                advance()
        except KeyboardInterrupt:
            status, complaint = _INTERRUPTED, "interrupted"
        except ClientError as error:
            status, complaint = 1, words(error)
    if complaint:
        typer.secho(f"lmht: {complaint}", err=True, fg=typer.colors.RED)
    typer.echo("\n".join(summary.lines(of=len(found))), err=True)
    if status or summary.failed:
        raise typer.Exit(status or 1)


def _writers(stack: ExitStack, csv: Path | None, json: bool) -> list[Writer]:
    writers: list[Writer] = [JsonWriter(sys.stdout)] if json else []
    if csv is None and not json:
        csv = STDOUT
    if csv == STDOUT:
        writers.append(CsvWriter(sys.stdout))
    elif csv is not None:
        try:
            writers.append(CsvWriter(stack.enter_context(csv.open("w", encoding="utf-8", newline=""))))
        except OSError as error:
            fail(f"{csv} cannot be written: {error.strerror or error}")
    return writers


def _fills_terminal(csv: Path | None, json: bool) -> bool:
    """Whether rows and a progress bar would be on one screen, each in the way of the other."""
    return sys.stdout.isatty() and (json or csv in (None, STDOUT))


@contextmanager
def _bar(total: int, *, hidden: bool) -> Iterator[Callable[[], None]]:
    console = Console(stderr=True)
    columns = (TextColumn("classifying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=hidden or not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)
