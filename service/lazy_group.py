"""Commands that are imported only when they are called, so that ``lmht --help`` does not wait for torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup


@dataclass(frozen=True)
class LazyCommand:
    """Where a command is: a function, or a `typer.Typer` with commands of its own, and its help in one line.

    ``panel`` is the title that it is listed under; None, with those that are not lazy.
    """

    module: str
    attribute: str
    help: str
    panel: str | None = None


class LazyGroup(TyperGroup):
    """A group with some commands that it only knows the address of: a subclass names them in ``lazy``."""

    lazy: ClassVar[Mapping[str, LazyCommand]] = {}

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, where in self.lazy.items():
            self.add_command(_StandIn(name, where))


class _StandIn(TyperCommand):
    """Shows a command's name and help; the real one takes over where its arguments are to be read."""

    def __init__(self, name: str, where: LazyCommand) -> None:
        super().__init__(name, callback=None, help=where.help, rich_help_panel=where.panel)
        self._where = where

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return self._load().make_context(info_name, args, parent, **extra)

    def _load(self) -> Any:
        target = getattr(import_module(self._where.module), self._where.attribute)
        if not isinstance(target, typer.Typer):
            app = typer.Typer(add_completion=False)
            app.command(name=self.name, help=None)(target)
            target = app
        return typer.main.get_command(target)
