"""`lmht key`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service import keys
from service.commands.ending import fail


def key(
    name: Annotated[str, typer.Argument(help="Whose key it is, or what it is for.")],
    file: Annotated[Path, typer.Option(help="The file that LMHT_API_KEYS_FILE names; made where there is none.")],
) -> None:
    """Make an API key: print it once, and add its hash to a file. A running server reads the file when it starts."""
    made = keys.make()
    try:
        line = keys.line(name, made)
        if file.exists() and name in {each.name for each in keys.read(file)}:
            fail(f"{str(file)!r} has a key for {name!r} already; take its line out first")
        with file.open("a+", encoding="utf-8") as stream:
            stream.seek(0)
            unended = stream.read()[-1:] not in ("", "\n")
            stream.write("\n" * unended + f"{line}\n")
    except (ValueError, OSError) as error:
        fail(str(error))
    typer.echo(made)
