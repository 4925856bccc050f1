"""Numbers, units and names as text: three or four digits, and never an exponent."""

from __future__ import annotations

import math
import re

# What neither a terminal nor XML should be sent, and what turns the direction of the text that follows.
_UNSAFE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
NOTHING = "–"


def clean(text: str) -> str:
    """Without characters that would steer a terminal, break XML or turn the writing's direction."""
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text)


def short(text: str, length: int = 24) -> str:
    """At most so many characters, the cut shown."""
    text = clean(text)
    return text if len(text) <= length else text[: length - 1] + "…"


def number(value: float | None, digits: int = 3) -> str:
    """So many significant digits, whole from 100 on at three of them; thousands apart."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    places = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    return f"{value:,.{places}f}"


def plain(value: float | None) -> str:
    """Up to four significant digits, and no zeros behind them: what somebody set, and ticks."""
    text = number(value, 4)
    return text.rstrip("0").rstrip(".") if "." in text else text


def seconds(value: float | None) -> str:
    """With the unit that suits it."""
    if value is None:
        return NOTHING
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= 0.9995 * size:
            return f"{number(value / size)} {unit}"
    return f"{number(value * 1e6)} µs"


def limit(value: float) -> str:
    """A duration that somebody set, as it was said: 50 ms."""
    return f"{1000 * value:g} ms" if value < 1 else f"{value:g} s"


def ms(value: float | None) -> str:
    """Milliseconds from seconds, without the unit."""
    return NOTHING if value is None else number(1000 * value)


def percent(share: float | None, places: int = 1) -> str:
    """Without the sign, for columns. 100 only where it is all, and 0 only where it is nothing."""
    if share is None:
        return NOTHING
    text = f"{100 * share:.{places}f}"
    if share < 1 and float(text) == 100:
        return ">" + f"{100 - 10**-places:.{places}f}"
    if share > 0 and float(text) == 0:
        return "<" + f"{10**-places:.{places}f}"
    return text


def energy(nanojoules: float | None) -> str:
    """With the unit that suits it."""
    if nanojoules is None:
        return NOTHING
    for unit, size in (("mJ", 1e6), ("µJ", 1e3)):
        if nanojoules >= size:
            return f"{number(nanojoules / size)} {unit}"
    return f"{number(nanojoules)} nJ"


def count(value: float | None) -> str:
    """Thousands as k, millions as M."""
    if value is None:
        return NOTHING
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return number(value / size) + unit
    return number(value)


def way(asked: str) -> str:
    """How a budget that was asked for is named: T=4, or auto as it was said."""
    return f"T={asked}" if asked.isdecimal() else clean(asked)


def several(amount: int, what: str, plural: str | None = None) -> str:
    """`1 run`, `1,234 runs`."""
    return f"{amount:,} {what if amount == 1 else plural or what + 's'}"
