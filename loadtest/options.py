"""The options that all scenarios share, written once.

A command is a function of `Common` and of its own options; `scenario` gives it the signature that the command line
reads.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from loadtest.asks import Ask, Mix, parse_mix, parse_timesteps
from loadtest.errors import LoadTestError
from loadtest.model import Model
from loadtest.pictures import Picture, noise, read_folder

_WHERE, _WHAT, _HOW, _OUT, _TROUBLE = "The server", "What is asked", "How long and by whom", "Reports", "Trouble"


def _option(*names: str, **attributes: Any) -> Any:
    return typer.Option(*names, **attributes)


@dataclass(frozen=True)
class Common:
    """What every scenario is told; the fields' own texts are the command's help."""

    url: Annotated[
        str, _option(envvar="LMHT_URL", help="The server's address; requests go nowhere else.", rich_help_panel=_WHERE)
    ] = "http://127.0.0.1:8000"
    i_own_this_server: Annotated[
        bool,
        _option("--i-own-this-server", help="It may be another machine: it is yours.", rich_help_panel=_WHERE),
    ] = False
    api_key: Annotated[
        str | None, _option(envvar="LMHT_API_KEY", help="API key for the server.", rich_help_panel=_WHERE)
    ] = None
    model: Annotated[
        list[str] | None,
        _option(
            help="Model; more than one only for the suite.", show_default="the server's first", rich_help_panel=_WHAT
        ),
    ] = None
    timesteps: Annotated[
        str | None, _option(help="Budget, or auto.", show_default="the model's largest", rich_help_panel=_WHAT)
    ] = None
    deadline_ms: Annotated[float | None, _option(help="Deadline that requests have.", rich_help_panel=_WHAT)] = None
    min_confidence: Annotated[
        float | None, _option(help="Confidence that requests with auto ask for.", rich_help_panel=_WHAT)
    ] = None
    images: Annotated[
        int | None,
        _option(min=1, help="Pictures a request.", show_default="1; offline, as many as may be", rich_help_panel=_WHAT),
    ] = None
    api: Annotated[
        str,
        _option(help="native: files as they are. v2: pixels, by the Open Inference Protocol.", rich_help_panel=_WHAT),
    ] = "native"
    mix: Annotated[
        list[str] | None,
        _option(
            help="A way of asking with its weight, such as 3:timesteps=4,images=2; may be repeated.",
            rich_help_panel=_WHAT,
        ),
    ] = None
    data: Annotated[
        list[str] | None,
        _option(
            help="Folder of pictures, with labels.csv as lmht data writes it or without; MODEL=FOLDER for one of "
            "several models.",
            show_default="noise",
            rich_help_panel=_WHAT,
        ),
    ] = None
    pictures: Annotated[
        int | None,
        _option(min=1, help="Most pictures, from all over a folder.", show_default="all", rich_help_panel=_WHAT),
    ] = None
    seconds: Annotated[float, _option(help="Seconds of a run that are counted.", rich_help_panel=_HOW)] = 10.0
    warmup_s: Annotated[float, _option(min=0, help="Seconds before that are not.", rich_help_panel=_HOW)] = 1.0
    requests: Annotated[
        int | None, _option(min=1, help="Most requests of a run.", show_default="no bound", rich_help_panel=_HOW)
    ] = None
    seed: Annotated[int, _option(min=0, help="Of all that is drawn.", rich_help_panel=_HOW)] = 1
    processes: Annotated[
        int, _option(min=1, help="Client processes; more where one cannot keep up.", rich_help_panel=_HOW)
    ] = 1
    connections: Annotated[int, _option(min=1, help="Most connections, of all together.", rich_help_panel=_HOW)] = 1024
    timeout_s: Annotated[float, _option(min=0.1, help="After it a request is lost.", rich_help_panel=_HOW)] = 30.0
    json: Annotated[Path | None, _option("--json", help="Record to write.", rich_help_panel=_OUT)] = None
    csv: Annotated[Path | None, _option("--csv", help="CSV file, a line for each run.", rich_help_panel=_OUT)] = None
    html: Annotated[Path | None, _option("--html", help="Page with plots.", rich_help_panel=_OUT)] = None
    pareto: Annotated[
        Path | None, _option("--pareto", help="SVG of accuracy against latency and energy.", rich_help_panel=_OUT)
    ] = None
    samples: Annotated[
        Path | None, _option("--samples", help="CSV file, a line for each request.", rich_help_panel=_OUT)
    ] = None
    chaos: Annotated[
        float | None,
        _option(help="Share of requests by unruly clients, which are not measured.", rich_help_panel=_TROUBLE),
    ] = None
    chaos_kinds: Annotated[
        str | None,
        _option(
            help="Kinds of them, with commas between.",
            show_default="disconnect,dribble,garbage,nonsense,oversized",
            rich_help_panel=_TROUBLE,
        ),
    ] = None
    during: Annotated[
        str | None, _option(help="Command that is run in the middle of the first run.", rich_help_panel=_TROUBLE)
    ] = None
    after: Annotated[
        float, _option(min=0, help="Seconds after its warm-up at which that is.", rich_help_panel=_TROUBLE)
    ] = 1.0

    def ask(self, model: str) -> Ask:
        """How a request asks that nothing else is said of. Raises LoadTestError."""
        if self.api not in ("native", "v2"):
            raise LoadTestError(f"--api is native or v2, not {self.api!r}")
        return Ask(
            model,
            None if self.timesteps is None else parse_timesteps(self.timesteps),
            self.deadline_ms,
            self.min_confidence,
            self.images or 1,
            "v2" if self.api == "v2" else "native",
        )


def scenario(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose first parameter is a `Common`, as one that has its fields among its options."""
    hints = get_type_hints(command, include_extras=True)
    own = [*inspect.signature(command).parameters.values()][1:]
    shared = get_type_hints(Common, include_extras=True)
    parameters = [each.replace(annotation=hints[each.name], kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
    parameters += [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=shared[field.name],
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
        )
        for field in fields(Common)
    ]

    @functools.wraps(command)
    def wrapped(**options: Any) -> None:
        common = Common(**{field.name: options.pop(field.name) for field in fields(Common)})
        command(common, **options)

    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapped


def mix_of(common: Common, base: Ask, models: dict[str, Model]) -> Mix:
    """What is asked, with budgets named. Raises LoadTestError."""
    mix = parse_mix(common.mix, base) if common.mix else Mix.of(base)
    return named(mix, models)


def named(mix: Mix, models: dict[str, Model]) -> Mix:
    """A mix with the largest budget where none was named; each must be one of its model's. Raises LoadTestError."""
    asks = []
    for ask in mix.asks:
        model = models.get(ask.model)
        if model is None:
            raise LoadTestError(f"the server has no model {ask.model!r}; there are {', '.join(models)}")
        timesteps = model.budgets[-1] if ask.timesteps is None else ask.timesteps
        if isinstance(timesteps, int):
            model.budget(timesteps)
        asks.append(replace(ask, timesteps=timesteps))
    return Mix(tuple(asks), mix.weights)


def pictures_of(common: Common, models: dict[str, Model], served: Collection[str]) -> dict[str, tuple[Picture, ...]]:
    """The pictures of each model that is asked, of those that are ``served``. Raises LoadTestError."""
    folders: dict[str, Path] = {}
    for text in common.data or ():
        name, equals, folder = text.partition("=")
        if equals and name in served:
            folders[name] = Path(folder)
        elif Path(text).is_dir():
            folders = dict.fromkeys(models, Path(text)) | folders
        else:
            raise LoadTestError(f"--data {text}: there is no such folder, and no such model")
    return {
        name: read_folder(folders[name], model.classes, common.pictures)
        if name in folders
        else noise(model, common.seed)
        for name, model in models.items()
    }
