"""Requests that somebody wrote down, to be sent again: a CSV file.

The column ``at_s`` says when each is to be sent, in seconds; the first is sent at once whatever it says. Further
columns say how it asks, where that differs from the command's options: ``model``, ``timesteps``, ``deadline_ms``,
``min_confidence``, ``images``, ``api``; an empty cell does not. There are no others.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from loadtest.arrivals import MOST_REQUESTS
from loadtest.asks import Ask, Mix, with_text
from loadtest.errors import LoadTestError
from loadtest.plan import Replay

_AT = "at_s"
_COLUMNS = ("model", "timesteps", "deadline_ms", "min_confidence", "images", "api")


@dataclass(frozen=True)
class Trace:
    """What a file says; the mix has a weight for each way, by how often it comes."""

    mix: Mix
    load: Replay

    @property
    def seconds(self) -> float:
        """From the first request to the last."""
        return self.load.times[-1]


def read(path: Path, base: Ask, speed: float = 1.0) -> Trace:
    """Read a trace; ``speed`` 2 sends in half the time. Raises LoadTestError, which names the line."""
    if not 0 < speed < math.inf:
        raise LoadTestError(f"the speed is a number above 0, not {speed:g}")
    rows: list[tuple[float, Ask]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            names = reader.fieldnames or ()
            if _AT not in names or set(names) - {_AT, *_COLUMNS}:
                raise LoadTestError(f"{path} needs the column {_AT}, and may have {', '.join(_COLUMNS)}, and no others")
            for row in reader:
                try:
                    if None in row:
                        raise LoadTestError("more cells than columns")
                    rows.append(_row(row, base))
                except LoadTestError as error:
                    raise LoadTestError(f"{path}, line {reader.line_num}: {error}") from error
                if len(rows) > MOST_REQUESTS:
                    raise LoadTestError(f"{path} has more than {MOST_REQUESTS:,} requests")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LoadTestError(f"{path} cannot be read: {error}") from error
    if not rows:
        raise LoadTestError(f"{path} has no requests")
    rows.sort(key=lambda row: row[0])
    asks = tuple(dict.fromkeys(ask for _, ask in rows))
    place = {ask: number for number, ask in enumerate(asks)}
    ways = tuple(place[ask] for _, ask in rows)
    weights = tuple(float(ways.count(number)) for number in range(len(asks)))
    return Trace(Mix(asks, weights), Replay(tuple((at - rows[0][0]) / speed for at, _ in rows), ways))


def _row(row: dict[str, str | None], base: Ask) -> tuple[float, Ask]:
    try:
        at = float(row[_AT] or "")
    except ValueError:
        at = math.nan
    if not 0 <= at < math.inf:
        raise LoadTestError(f"{_AT} is a number of seconds from 0 on, not {row[_AT]!r}")
    ask = base
    for name in _COLUMNS:
        if text := (row.get(name) or "").strip():
            ask = with_text(ask, name, text)
    return at, ask
