"""`lmht models`: what a server has, and bringing models in and out of service."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.client import Client, ClientError, ModelList, RepositoryEntry
from service.commands.ending import fail
from service.commands.sources import words

T = TypeVar("T")
# Loading a model includes compiling it for every batch size.
_TIMEOUT_S = 600.0
_URL = "http://127.0.0.1:8000"
_STYLES = {"READY": "green", "UNAVAILABLE": "red"}

Url = Annotated[str | None, typer.Option(help="The server's address.", show_default="as LMHT_URL says, or " + _URL)]
Token = Annotated[str | None, typer.Option(help="Its admin token.", show_default="as LMHT_ADMIN_TOKEN says")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="The model.")]
Version = Annotated[int | None, typer.Option(min=0, help="One version of it.", show_default="all")]


@dataclass(frozen=True)
class _Shown:
    """A version of a model; ``timesteps`` and ``classes`` where it is served."""

    name: str
    version: str
    state: str
    timesteps: list[int] | None
    classes: int | None
    reason: str


@dataclass(frozen=True)
class _Server:
    """Which server is meant: options may stand before the subcommand or after it."""

    url: str
    token: str | None

    def but(self, url: str | None, token: str | None) -> _Server:
        return _Server(url or self.url, token or self.token)

    def ask(self, question: Callable[[Client], T]) -> T:
        """What the server answers; the command ends with what went wrong."""
        try:
            with Client(self.url, admin_token=self.token, timeout_s=_TIMEOUT_S) as client:
                return question(client)
        except ClientError as error:
            fail(words(error))


app = typer.Typer(add_completion=False)


@app.callback(invoke_without_command=True)
def top(
    context: typer.Context,
    url: Annotated[str, typer.Option(envvar="LMHT_URL", help="The server's address.")] = _URL,
    token: Annotated[str | None, typer.Option(envvar="LMHT_ADMIN_TOKEN", help="Its admin token.")] = None,
    as_json: Json = False,
) -> None:
    """Show, load and unload a server's models; without a command, list them."""
    context.obj = _Server(url, token)
    if context.invoked_subcommand is None:
        _list(context.obj, as_json=as_json)


@app.command("list")
def list_(context: typer.Context, url: Url = None, token: Token = None, as_json: Json = False) -> None:
    """List every version in the server's repositories, served or not."""
    _list(context.obj.but(url, token), as_json=as_json)


@app.command()
def load(context: typer.Context, name: Name, version: Version = None, url: Url = None, token: Token = None) -> None:
    """Serve a model as its repository has it now: new versions, changed ones, and those that failed before."""
    server: _Server = context.obj.but(url, token)
    _show(server.ask(lambda client: _merged(client.load(name, version), client.models())))


@app.command()
def unload(context: typer.Context, name: Name, version: Version = None, url: Url = None, token: Token = None) -> None:
    """Serve a model no more, once what is under way is answered."""
    server: _Server = context.obj.but(url, token)
    _show(server.ask(lambda client: _merged(client.unload(name, version), client.models())))


def _list(server: _Server, *, as_json: bool) -> None:
    shown = server.ask(lambda client: _merged(client.index(), client.models()))
    if as_json:
        typer.echo(json.dumps([vars(each) for each in shown], indent=2, ensure_ascii=False))
    else:
        _show(shown)


def _merged(entries: Sequence[RepositoryEntry], models: ModelList) -> list[_Shown]:
    served = {(model.name, model.version): model for model in models.models}
    merged = []
    for entry in entries:
        model = served.get((entry.name, entry.version))
        timesteps, classes = (model.timesteps, model.classes) if model else (None, None)
        merged.append(_Shown(entry.name, entry.version, entry.state, timesteps, classes, entry.reason))
    return merged


def _show(shown: Sequence[_Shown]) -> None:
    table = Table("name", "version", "state", "budgets", "classes", "reason", header_style="dim", box=None)
    for each in shown:
        table.add_row(
            Text(each.name, "bold"),
            each.version,
            Text(each.state, _STYLES.get(each.state, "")),
            ", ".join(map(str, each.timesteps or ())),
            "" if each.classes is None else str(each.classes),
            Text(each.reason),
        )
    Console().print(table)
