"""How a command ends that cannot do what it was asked."""

from __future__ import annotations

from typing import NoReturn

import typer


def fail(message: str) -> NoReturn:
    """Say why in one line, and exit with 1."""
    typer.secho(f"lmht: {message}", err=True, fg=typer.colors.RED)
    raise typer.Exit(1)
