"""What is asked of the server: a way of asking, and mixes of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from loadtest.errors import LoadTestError

Api = Literal["native", "v2"]
AUTO: Literal["auto"] = "auto"


@dataclass(frozen=True)
class Ask:
    """One way of asking: whom, and with which options.

    timesteps: the budget; `auto` leaves it to the server, None is the largest of the model.
    deadline_ms, min_confidence: as the server has these options; None does not send them.
    images: of one request.
    api: `native` sends the pictures' files, `v2` their pixels as bytes behind the JSON (Open Inference Protocol).
    """

    model: str
    timesteps: int | Literal["auto"] | None = None
    deadline_ms: float | None = None
    min_confidence: float | None = None
    images: int = 1
    api: Api = "native"

    def __post_init__(self) -> None:
        for name, value, least in (("images", self.images, 1), ("timesteps", self.timesteps, 1)):
            if isinstance(value, int) and value < least:
                raise LoadTestError(f"{name} is at least {least}, not {value}")
        if self.deadline_ms is not None and not 0 < self.deadline_ms < math.inf:
            raise LoadTestError(f"deadline_ms is a number above 0, not {self.deadline_ms}")
        if self.min_confidence is not None and not 0 < self.min_confidence <= 1:
            raise LoadTestError(f"min_confidence is a number above 0 and at most 1, not {self.min_confidence}")
        if self.min_confidence is not None and self.timesteps != AUTO:
            raise LoadTestError("min_confidence goes with timesteps=auto only")

    @property
    def way(self) -> str:
        """The budget that is asked for, for people: `4`, `auto`, `auto within 100 ms`."""
        said = [str(self.timesteps)]
        if self.deadline_ms is not None:
            said.append(f"within {self.deadline_ms:g} ms")
        if self.min_confidence is not None:
            said.append(f"from {self.min_confidence:g} sure")
        return " ".join(said)

    @property
    def title(self) -> str:
        """Model and way, as the name of a run begins with."""
        budget = f"T = {self.way}" if isinstance(self.timesteps, int) else self.way
        images = f", {self.images} images" if self.images > 1 else ""
        return f"{self.model}, {budget}{images}{', v2' if self.api == 'v2' else ''}"


@dataclass(frozen=True)
class Mix:
    """Ways of asking, each with the share of requests that it gets; shares are relative to each other."""

    asks: tuple[Ask, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.asks or len(self.asks) != len(self.weights):
            raise LoadTestError("a mix needs at least one way of asking, and a weight for each")
        if not all(0 < weight < math.inf for weight in self.weights):
            raise LoadTestError("weights are numbers above 0")

    @classmethod
    def of(cls, ask: Ask) -> Mix:
        """One way alone."""
        return cls((ask,), (1.0,))

    @property
    def way(self) -> str:
        """Of all together, for people."""
        return self.asks[0].way if len(self.asks) == 1 else "mix"

    @property
    def title(self) -> str:
        """As the name of a run begins with."""
        return self.asks[0].title if len(self.asks) == 1 else f"{self.asks[0].model}, mix"

    @property
    def parameters(self) -> dict[str, float | int | str]:
        """What is asked, as a `loadtest.record.Run` has it."""
        if len(self.asks) > 1:
            ways = zip(self.weights, self.asks, strict=True)
            return {"mix": " ".join(f"{weight:g}:{ask.title}" for weight, ask in ways)}
        ask = self.asks[0]
        said: dict[str, float | int | str] = {"timesteps": str(ask.timesteps), "images": ask.images, "api": ask.api}
        if ask.deadline_ms is not None:
            said["deadline_ms"] = ask.deadline_ms
        if ask.min_confidence is not None:
            said["min_confidence"] = ask.min_confidence
        return said


def parse_timesteps(text: str) -> int | Literal["auto"]:
    """A budget as the command line has it. Raises LoadTestError."""
    if text == AUTO:
        return AUTO
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 1024):
        raise LoadTestError(f"timesteps is a whole number from 1 to 1024, or {AUTO}, not {text!r}")
    return int(text)


def parse_mix(texts: Sequence[str], base: Ask) -> Mix:
    """A mix from texts such as `3:timesteps=4,images=2`: a weight, and what differs from ``base``.

    Raises LoadTestError.
    """
    asks, weights = [], []
    for text in texts:
        weight, _, changes = text.partition(":")
        asks.append(parse_ask(changes, base))
        weights.append(_number(weight, f"the weight in {text!r}"))
    return Mix(tuple(asks), tuple(weights))


def parse_ask(text: str, base: Ask) -> Ask:
    """``base`` with changes such as `timesteps=auto,deadline_ms=50`. Raises LoadTestError."""
    ask = base
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals:
            raise LoadTestError(f"{part!r} in {text!r} is not of the form name=value")
        ask = with_text(ask, name.strip(), value.strip())
    return ask


def with_text(ask: Ask, name: str, text: str) -> Ask:
    """A way of asking with one thing changed. Raises LoadTestError."""
    if name == "model":
        return replace(ask, model=text)
    if name == "timesteps":
        return replace(ask, timesteps=parse_timesteps(text))
    if name == "deadline_ms":
        return replace(ask, deadline_ms=_number(text, name))
    if name == "min_confidence":
        return replace(ask, min_confidence=_number(text, name))
    if name == "images":
        if not (text.isascii() and text.isdigit()):
            raise LoadTestError(f"images is a whole number, not {text!r}")
        return replace(ask, images=int(text))
    if name == "api":
        if text not in ("native", "v2"):
            raise LoadTestError(f"api is native or v2, not {text!r}")
        return replace(ask, api="v2" if text == "v2" else "native")
    raise LoadTestError(f"{name!r}: there are model, timesteps, deadline_ms, min_confidence, images and api")


def _number(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise LoadTestError(f"{what} is a number, not {text!r}") from None
