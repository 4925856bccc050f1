"""`lmht loadtest report RECORD.json`: the reports of a record that was written, once more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from loadtest.record import RecordError, read
from loadtest.report import page, pareto, summary, table, words


def render(
    record: Annotated[Path, typer.Argument(help="Record of a load test, as JSON.", show_default=False)],
    html: Annotated[Path | None, typer.Option(help="Write the page here.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write a line per run here.")] = None,
    picture: Annotated[
        Path | None, typer.Option("--pareto", help="Write the picture of what accuracy costs here, as SVG.")
    ] = None,
) -> None:
    """Show a record, or write its reports, without running anything."""
    try:
        found = read(record)
        if html:
            page.write(found, html)
        if csv:
            summary.write(found, csv)
        if picture:
            pareto.write(found, picture)
    except (RecordError, pareto.NothingToDraw, OSError) as error:
        Console(stderr=True).print(Text(f"lmht loadtest report: {words.clean(str(error))}"), soft_wrap=True)
        raise typer.Exit(1) from error
    if not (html or csv or picture):
        table.show(found, Console())
