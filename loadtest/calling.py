"""One call of a command: from its options to its reports and its exit status."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Literal, NoReturn

import typer
from rich.console import Console

from loadtest import target
from loadtest.address import address
from loadtest.asks import Ask, Mix
from loadtest.during import Disturbance, During
from loadtest.errors import LoadTestError
from loadtest.interrupt import Interrupt
from loadtest.live import Live
from loadtest.model import Model
from loadtest.options import Common, mix_of, pictures_of
from loadtest.processes import Clients
from loadtest.record import Record
from loadtest.samples_file import SamplesFile
from loadtest.session import Session
from loadtest.unruly import KINDS, Chaos, parse_kinds
from loadtest.worker import Setup

# What a shell expects of a command that a signal ended.
_SIGNALLED = 128
_SECRETS = ("--api-key",)


class Call:
    """What a command has at hand: the server's models, and what is asked of them unless it says otherwise."""

    def __init__(self, common: Common, served: frozenset[str], models: tuple[Model, ...], base: Ask) -> None:
        self.common, self.served, self.models, self.base = common, served, models, base

    @property
    def named(self) -> dict[str, Model]:
        """The models by their names."""
        return {model.name: model for model in self.models}

    def mix(self) -> Mix:
        """What is asked, by the options. Raises LoadTestError."""
        return mix_of(self.common, self.base, self.named)

    def most_images(self) -> int:
        """How many pictures the server takes in one request."""
        return target.most_images(self.common.url, self.common.api_key, self.base.model)


def perform(
    common: Common, runs: Callable[[Session, Call], None], *, asks: Literal["mix", "any", "all"] = "mix"
) -> None:
    """Make the runs of a command and report them; ends the program where it is not to end with 0.

    ``asks``: whom it asks. The models of its mix, one of them the first; perhaps any; or all, or all that were named.
    """
    try:
        local = target.check_allowed(common.url, mine=common.i_own_this_server)
        _check_files(common)
        call = _call(common, asks)
        with ExitStack() as stack:
            interrupt = stack.enter_context(Interrupt())
            file = stack.enter_context(SamplesFile(common.samples)) if common.samples else None
            clients = stack.enter_context(Clients(_setup(common, call), common.processes))
            session = Session(
                common.url,
                clients,
                call.models,
                interrupt=interrupt,
                show=stack.enter_context(Live()).show,
                file=file,
                disturbance=Disturbance(During(common.during, common.after)) if common.during else None,
            )
            trouble = _make(runs, session, call)
        if session.runs:
            report(session.record(_command(), common.seed, local=local), common)
    except (LoadTestError, OSError) as error:
        fail(str(error))
    if trouble is not None:
        fail(str(trouble))
    if interrupt.number is not None:
        raise typer.Exit(_SIGNALLED + interrupt.number)


def report(record: Record, common: Common) -> None:
    """Print a record, and write what was asked for. Raises OSError."""
    from loadtest.report import page, pareto, summary, table

    table.show(record, Console())
    if common.json is not None:
        record.write(common.json)
    if common.csv is not None:
        summary.write(record, common.csv)
    if common.html is not None:
        page.write(record, common.html)
    if common.pareto is not None:
        try:
            pareto.write(record, common.pareto)
        except pareto.NothingToDraw as error:
            typer.secho(f"lmht: {common.pareto} was not written: {error}", err=True)


def fail(message: str) -> NoReturn:
    """Say why in one line, and exit with 1."""
    typer.secho(f"lmht: {message}", err=True, fg=typer.colors.RED)
    raise typer.Exit(1)


def _make(runs: Callable[[Session, Call], None], session: Session, call: Call) -> LoadTestError | None:
    """What went wrong, where some runs were made before: they are reported all the same. Raises LoadTestError."""
    try:
        runs(session, call)
    except LoadTestError as error:
        if not session.runs:
            raise
        return error
    return None


def _call(common: Common, asks: Literal["mix", "any", "all"]) -> Call:
    wanted = common.model or []
    if len(wanted) > 1 and asks != "all":
        raise LoadTestError("one --model for this scenario; a mix asks several: --mix 1:model=NAME")
    served = target.models(common.url, common.api_key)
    names = frozenset(model.name for model in served)
    if unknown := sorted(set(wanted) - names):
        raise LoadTestError(f"the server has no model {unknown[0]!r}; there are {', '.join(sorted(names))}")
    models = tuple(model for model in served if not wanted or model.name in wanted or asks != "all")
    call = Call(common, names, models, common.ask(wanted[0] if wanted else models[0].name))
    return _asked(call) if asks == "mix" else call


def _asked(call: Call) -> Call:
    """The call with those of the models alone that are asked: the others need no pictures."""
    asked = {ask.model for ask in call.mix().asks}
    models = tuple(model for model in call.models if model.name in asked)
    return Call(call.common, call.served, models, call.base)


def _setup(common: Common, call: Call) -> Setup:
    chaos = None
    if common.chaos:
        chaos = Chaos(common.chaos, parse_kinds(common.chaos_kinds) if common.chaos_kinds else KINDS)
    return Setup(
        where=address(common.url),
        api_key=_key(common.api_key),
        models=call.named,
        pictures=pictures_of(common, call.named, call.served),
        connections=common.connections,
        timeout_s=common.timeout_s,
        chaos=chaos,
    )


def _key(key: str | None) -> str | None:
    if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key != ""):
        raise LoadTestError("an API key is one line of printable text, without spaces around it")
    return key


def _check_files(common: Common) -> None:
    """Whether what is found out can be written, before it is. Raises LoadTestError."""
    for path in (common.json, common.csv, common.html, common.pareto, common.samples):
        if path is not None and not path.absolute().parent.is_dir():
            raise LoadTestError(f"{path}: there is no folder {path.parent}")


def _command() -> str:
    """The command line, without secrets."""
    words: list[str] = []
    for word in sys.argv[1:]:
        name, equals, _ = word.partition("=")
        if words and words[-1] in _SECRETS:
            word = "***"
        elif equals and name in _SECRETS:
            word = f"{name}=***"
        words.append(word)
    return shlex.join(["lmht", *words])
