"""How a client wants to be answered; what is left out is the server's choice."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

_INCLUDED = {"include_input": "input", "include_measured": "measured"}


class ClassifyOptions(TypedDict, total=False):
    """The options of one request; one that is None is left out.

    timesteps: the budget, or "auto" for the largest that deadline and load allow.
    top_k: how many classes to list.
    deadline_ms: milliseconds from the call's start after which the answer is of no use. The whole call ends by then,
        repeats and waits included, and each repeat tells the server what is left.
    min_confidence: 0 to 1; what is less certain at the smallest budget is run again. Goes with timesteps "auto".
    priority: share of the engine while others wait.
    energy_profile: prices by which operations become joules.
    include_input: whether to answer each picture as the network sees it, too.
    include_measured: whether to answer what the server's GPU drew for each, too; a server that cannot tell refuses.
    id: the request's name in the answer and in the log, 1 to 128 visible ASCII characters.
    """

    timesteps: int | Literal["auto"] | None
    top_k: int | None
    deadline_ms: float | None
    min_confidence: float | None
    priority: Literal["high", "normal", "low"] | None
    energy_profile: str | None
    include_input: bool
    include_measured: bool
    id: str | None


def values(options: ClassifyOptions) -> dict[str, Any]:
    """The options that are set, by the API's names and as JSON has them. Raises TypeError for an unknown one."""
    if unknown := options.keys() - ClassifyOptions.__annotations__.keys():
        raise TypeError(f"there is no option {', '.join(sorted(unknown))}")
    said = {name: value for name, value in options.items() if value is not None and name not in _INCLUDED}
    included = [part for name, part in _INCLUDED.items() if options.get(name)]
    return said | {"include": included} if included else said


def texts(said: dict[str, Any]) -> dict[str, str]:
    """The same as a form has them."""
    return {name: ",".join(value) if isinstance(value, list) else str(value) for name, value in said.items()}
