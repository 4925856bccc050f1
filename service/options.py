"""What a client may say about how it wants to be answered: one definition for query, form, JSON and OpenAPI.

A query or a form carries text (``timesteps=4``), JSON carries values (``"timesteps": 4``), where a wrong type is a
mistake and not converted. An option that is unknown or out of range is refused, never ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from models.bundle import Timesteps
from models.energy import DEFAULT_PROFILE, PROFILES
from service.problems import InvalidOption

MAX_DEADLINE_MS = 3_600_000.0
_CACHED_QUERY_BYTES = 256
_WHOLE = re.compile(r"-?[0-9]{1,20}")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def _number(value: Any) -> Any:
    """Text as a plain decimal; Python's own reading would take ``1_0`` and digits of other scripts too."""
    if isinstance(value, str) and not _DECIMAL.fullmatch(value):
        raise ValueError("must be a number")
    return value


def _whole_number(value: Any) -> Any:
    if isinstance(value, str) and not _WHOLE.fullmatch(value):
        raise ValueError("must be a whole number")
    return value


def _budget(value: Any) -> Any:
    if isinstance(value, str) and value != "auto" and not _WHOLE.fullmatch(value):
        raise ValueError('must be a whole number or "auto"')
    return value


def _known_profile(value: Any) -> Any:
    if isinstance(value, str) and value not in PROFILES:
        raise ValueError(f"there are {', '.join(PROFILES)}")
    return value


def _as_tuple(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(value.split(","))
    return tuple(value) if isinstance(value, list) else value


# Told apart by hand, so that a mistake is explained once and not for each kind.
_Budget = Annotated[
    Annotated[Timesteps, Tag("number")] | Annotated[Literal["auto"], Tag("auto")],
    Discriminator(lambda value: "auto" if value == "auto" else "number"),
]


class Options(BaseModel):
    """The options of one request; None where the client left the choice to the server."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    timesteps: Annotated[_Budget | None, BeforeValidator(_budget)] = Field(
        default=None,
        description="Time-step budget. The largest exported one that is not above it is run; "
        "below the smallest is an error that lists what there is. `auto` leaves the choice to the server: the largest "
        "that meets the deadline and that the load allows. Without it, the server's default.",
        examples=[4],
    )
    top_k: Annotated[int | None, BeforeValidator(_whole_number)] = Field(
        default=None,
        ge=1,
        le=1000,
        description="How many classes to list, most probable first; never more than there are.",
        examples=[3],
    )
    deadline_ms: Annotated[float | None, BeforeValidator(_number)] = Field(
        default=None,
        gt=0,
        le=MAX_DEADLINE_MS,
        description="Milliseconds, from the request's arrival, after which the answer is of no use: "
        "it is a 504 then, and work that has not begun is dropped. What cannot meet it behind the work that waits is "
        "refused at once, a 429; what no budget could meet even alone is a 422.",
        examples=[250],
    )
    min_confidence: Annotated[float | None, BeforeValidator(_number)] = Field(
        default=None,
        gt=0,
        le=1,
        description="Runs the smallest budget first, and once more at a larger one those images whose most probable "
        "class is less probable than this, as far as deadline and load allow. Goes with `timesteps` `auto`, which it "
        "implies.",
        examples=[0.9],
    )
    priority: Literal["high", "normal", "low"] | None = Field(
        default=None,
        description="Share of the engine while others wait: `high` has ten times that of `normal`, `low` a tenth.",
        examples=["normal"],
    )
    energy_profile: Annotated[str | None, BeforeValidator(_known_profile)] = Field(
        default=None,
        description="Prices by which operations become joules, for hypothetical hardware; see the model's card.",
        json_schema_extra={"enum": list(PROFILES)},
        examples=[DEFAULT_PROFILE],
    )
    include: Annotated[tuple[Literal["input", "measured"], ...], BeforeValidator(_as_tuple)] = Field(
        default=(),
        max_length=2,
        description="What else to answer. `input`: each picture as the network sees it, a PNG in base64. `measured`: "
        "each image's share of the energy that this server's GPU drew, as measured; refused where there is no telling.",
        json_schema_extra={"default": [], "uniqueItems": True},
    )
    id: str | None = Field(
        default=None,
        pattern=r"^[!-~]{1,128}$",
        description="The request's name in the answer and in the log, 1 to 128 visible ASCII characters. "
        "Without it the header X-Request-ID, without that one is made.",
        examples=["example-1"],
    )

    @field_validator("include")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("given twice")
        return value

    @field_validator("min_confidence")
    @classmethod
    def _goes_with_a_choice(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and isinstance(info.data.get("timesteps"), int):
            raise ValueError('goes with timesteps "auto" only')
        return value


NAMES = frozenset(Options.model_fields)
_REPEATABLE = frozenset({"include"})
_DEFAULTS = Options()


def from_values(values: Mapping[str, Any]) -> Options:
    """Options from JSON values. Raises InvalidOption."""
    return _validate(values, strict=True) if values else _DEFAULTS


def from_text(pairs: Iterable[tuple[str, str]]) -> Options:
    """Options from a query's or form's names and texts. Raises InvalidOption, for one given twice too."""
    values: dict[str, Any] = {}
    for name, text in pairs:
        if name in _REPEATABLE:
            values.setdefault(name, []).extend(text.split(","))
        elif name in values:
            raise InvalidOption(f"{name}: given more than once", extensions={"errors": [_error(name, "given twice")]})
        else:
            values[name] = text
    return _validate(values, strict=False) if values else _DEFAULTS


def from_query(query: bytes) -> Options:
    """Options from a raw query string. Raises InvalidOption."""
    if not query:
        return _DEFAULTS
    return _from_short_query(query) if len(query) <= _CACHED_QUERY_BYTES else _from_query(query)


def _from_query(query: bytes) -> Options:
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=64)
    except ValueError as error:
        raise InvalidOption("the query cannot be read") from error
    return from_text(pairs)


# Clients repeat themselves; the bound on the length keeps strangers from filling the memory.
_from_short_query = lru_cache(maxsize=1024)(_from_query)


def _validate(values: Mapping[str, Any], *, strict: bool) -> Options:
    try:
        return Options.model_validate(values, strict=strict)
    except ValidationError as error:
        errors = [_explain(dict(item)) for item in error.errors(include_url=False)]
        detail = "; ".join(f"{e['option']}: {e['message']}" for e in errors)
        raise InvalidOption(detail, extensions={"errors": errors}) from error


def _explain(item: dict[str, Any]) -> dict[str, str]:
    name = str(item["loc"][0]) if item["loc"] else "options"
    if item["type"] == "extra_forbidden":
        return _error(name, f"unknown; there are {', '.join(Options.model_fields)}")
    message = str(item["msg"]).removeprefix("Value error, ")
    return _error(name, message[:1].lower() + message[1:])


def _error(name: str, message: str) -> dict[str, str]:
    # A name is the client's own text: cut, so that an answer stays small.
    return {"option": name[:64], "message": message}
