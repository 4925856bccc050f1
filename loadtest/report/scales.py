"""Axes: where a value lies between an axis's ends, and which ticks it gets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

_STEPS = (1, 2, 5)
# A logarithmic axis of less than this gets even ticks, as hardly any power of ten lies on it.
_NARROW = 3


@dataclass(frozen=True)
class Linear:
    """From ``low`` to ``high``, the ends themselves included."""

    low: float
    high: float

    def __call__(self, value: float) -> float:
        """0 at the low end, 1 at the high one."""
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int) -> list[float]:
        """At least one and at most so many, in steps of 1, 2 or 5 times a power of ten."""
        step = _step((self.high - self.low) / max(1, most - 1))
        while not (ticks := self._ticks(step)):
            step = _step(step / 2.6)  # the next smaller: two ticks at least were to lie on the axis, and none does
        return ticks

    def _ticks(self, step: float) -> list[float]:
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]


@dataclass(frozen=True)
class Log:
    """Logarithmic, from ``low`` above 0 to ``high``."""

    low: float
    high: float

    def __call__(self, value: float) -> float:
        """0 at the low end, 1 at the high one; what is not above 0 is at the low end."""
        if value <= 0:
            return 0.0
        return math.log(value / self.low) / math.log(self.high / self.low)

    def ticks(self, most: int) -> list[float]:
        """At most so many: 1, 2 and 5 of each decade, or powers of ten, or every second, third… of them."""
        if self.high < _NARROW * self.low:
            return Linear(self.low, self.high).ticks(most)
        low, high = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        decades = range(low, high + 1)
        for steps in (tuple(range(1, 10)), _STEPS, (1, 3), (1,)):
            ticks = self._inside(step * 10.0**decade for decade in decades for step in steps)
            if len(ticks) <= most:
                return ticks
        every = math.ceil((high - low + 1) / most)
        return self._inside(10.0**decade for decade in decades if decade % every == 0)

    def _inside(self, values: Iterable[float]) -> list[float]:
        return [v for v in values if self.low * (1 - 1e-9) <= v <= self.high * (1 + 1e-9)]


Scale = Linear | Log


@dataclass(frozen=True)
class Axis:
    """What an axis is of.

    Attributes:
        title: with the unit.
        name: a tick's value as text.
        log: whether it is logarithmic.
        zero: a linear one begins at 0.
        most: ticks.
        ticks: at these values instead.
        ceiling: the axis ends there at the latest, as 100 % does.
    """

    title: str
    name: Callable[[float], str]
    log: bool = False
    zero: bool = False
    most: int = 8
    ticks: tuple[float, ...] = ()
    ceiling: float = math.inf

    def scale(self, values: Iterable[float]) -> Scale:
        """That holds all these values, with a little room around them."""
        known = [v for v in values if math.isfinite(v) and (v > 0 or not self.log)]
        if not known:
            return Log(1, 10) if self.log else Linear(0, 1)
        low, high = min(known), max(known)
        if self.log:
            room = max((high / low) ** 0.06, 1.15)
            return Log(low / room, high * room)
        low = min(0.0, low) if self.zero else low
        room = 0.07 * (high - low) or abs(high) * 0.05 or 1.0
        top = min(high + room, max(self.ceiling, high))
        return Linear(low if self.zero else low - room, top if top > low else top + room)

    def ticks_of(self, scale: Scale) -> list[float]:
        """Values and where nothing else was said."""
        inside = [tick for tick in self.ticks if scale.low <= tick <= scale.high]
        return inside or scale.ticks(self.most)


def _step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in (*_STEPS, 10) if step * power >= least * (1 - 1e-9))
