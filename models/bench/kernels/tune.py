"""The tile that a layer runs fastest with, for `models.kernels.configs`.

A tile has five numbers, and compiling one takes seconds. So it is a descent: from the rule's tile to the best of those
that differ from it in one number by one step, and on until none is better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import triton

from models.bench.kernels.cases import Case, LayerCase
from models.kernels.configs import ConvolutionConfig, convolution_config

# What is tried of each number.
_LADDERS: Mapping[str, tuple[int, ...]] = {
    "rows": (16, 32, 64, 128),
    "columns": (32, 64, 128),
    "depth": (32, 64, 128),
    "warps": (4, 8),
    "stages": (2, 3, 4),
}
# Sums of all steps, in registers of a thread: fewer leave the tensor cores idle, more do not fit.
_FEWEST, _MOST = 8, 128
_WARP = 32
# A gain of less is as likely the noise's.
_WORTH = 0.99

# Seconds of a layer with a tile; infinite where it does not fit.
Timer = Callable[[ConvolutionConfig], float]


@dataclass(frozen=True)
class Tile:
    """A row of the table: a layer in one precision.

    layer: one of the cases that the row is for; all of those with one convolution share it.
    whole: whether products are of 8 bits.
    """

    layer: LayerCase
    whole: bool

    @property
    def name(self) -> str:
        """Unique among all tiles."""
        precision = "int8" if self.whole else "float16"
        return f"{self.layer.layer.name}-{self.layer.steps}-B{self.layer.batch}-{precision}"

    @property
    def key(self) -> tuple[int, int, int, int, bool]:
        """As `models.kernels.configs.CONVOLUTIONS` has it."""
        layer = self.layer.layer
        return self.layer.steps, self.layer.batch * layer.out_size**2, layer.out, layer.channels, self.whole

    def neighbours(self, tile: ConvolutionConfig) -> Iterator[ConvolutionConfig]:
        """Tiles one step away that are neither far too small nor sure to spill."""
        layer = self.layer.layer
        for name, ladder in _LADDERS.items():
            at = ladder.index(getattr(tile, name))
            for value in ladder[max(0, at - 1) : at] + ladder[at + 1 : at + 2]:
                near = replace(tile, **{name: value})
                registers = self.layer.steps * near.rows * near.columns / (near.warps * _WARP)
                wide, deep = (max(32, triton.next_power_of_2(n)) for n in (layer.out, layer.channels))
                if _FEWEST <= registers <= _MOST and near.columns <= wide and near.depth <= deep:
                    yield near


def tiles(cases: Iterable[Case]) -> list[Tile]:
    """The rows that these cases need, in both precisions, each once."""
    found: dict[object, Tile] = {}
    for case in cases:
        if isinstance(case, LayerCase):
            for whole in (True, False):
                tile = Tile(case, whole)
                found.setdefault(tile.key, tile)
    return list(found.values())


def best(tile: Tile, seconds: Timer) -> dict[str, Any]:
    """The best tile that the descent found, and what it and the rule's took, as plain data."""
    start = convolution_config(*tile.key, tuned=False)
    times = {start: seconds(start)}
    now, before = start, None
    while now != before:
        before = now
        for near in tile.neighbours(now):
            if near not in times:
                times[near] = seconds(near)
        nearest = min((near for near in tile.neighbours(before)), key=times.__getitem__, default=before)
        if times[nearest] < _WORTH * times[now]:
            now = nearest
    return {
        "key": list(tile.key),
        "tile": asdict(now),
        "seconds": _number(times[now]),
        "rule_seconds": _number(times[start]),
        "tried": len(times),
    }


def _number(seconds: float) -> float | None:
    """For JSON, which has no infinity."""
    return seconds if math.isfinite(seconds) else None


def rows(found: Mapping[str, Mapping[str, Any]], wanted: Sequence[Tile]) -> list[str]:
    """Rows for the table, with what they gain."""
    written = []
    for tile in wanted:
        row = found.get(tile.name)
        if row is None or row["seconds"] is None:
            continue
        by_rule = "does not fit" if row["rule_seconds"] is None else f"{1e6 * row['rule_seconds']:.1f} µs"
        taken = f"{tile.name}: {1e6 * row['seconds']:.1f} µs, by rule {by_rule}"
        written.append(f"    {tile.key}: {ConvolutionConfig(**row['tile'])},  # {taken}")
    return written
