"""Operations that hand spikes on as whole numbers: pools, sums over time, vectors; and the counts behind a pool."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.export.graph import Window
from models.fused.operation import Operation, State, channels_last


@dataclass(frozen=True, eq=False)
class SumPool(Operation):
    """The sum of each window, in a type that holds it."""

    window: Window
    dtype: torch.dtype

    def run(self, state: State) -> Tensor:
        """[S, B, C, H, W] → [S, B, C, H', W']."""
        spikes = state.values[self.reads[0]]
        if self.window.kernel == tuple(spikes.shape[3:]) and self.window.padding == (0, 0):
            return channels_last(spikes.sum((3, 4), keepdim=True, dtype=self.dtype))
        return _channels_first(_windows(spikes, self.window).sum((-2, -1), dtype=self.dtype))


@dataclass(frozen=True, eq=False)
class SpikeMaxPool(Operation):
    """The largest spike of each window, at each step."""

    window: Window

    def run(self, state: State) -> Tensor:
        """[S, B, C, H, W] → [S, B, C, H', W']."""
        return _channels_first(_windows(state.values[self.reads[0]], self.window).amax((-2, -1)))


@dataclass(frozen=True, eq=False)
class TimeSum(Operation):
    """The sum over the time-steps, in a type that holds it."""

    dtype: torch.dtype

    def run(self, state: State) -> Tensor:
        """[S, B, …] → [1, B, …]."""
        return channels_last(state.values[self.reads[0]].sum(0, keepdim=True, dtype=self.dtype))


@dataclass(frozen=True, eq=False)
class Flatten(Operation):
    """A map made a vector, channel by channel; of spikes or of real values."""

    def run(self, state: State) -> Tensor:
        """[S, B, C, H, W] → [S, B, C·H·W]."""
        return state.values[self.reads[0]].flatten(2)


@dataclass(frozen=True, eq=False)
class Steps(Operation):
    """What has no time axis, at each step: for a kernel that reads it beside what has one."""

    timesteps: int

    def run(self, state: State) -> Tensor:
        """[1, B, …] → [T, B, …]."""
        once = state.values[self.reads[0]]
        return channels_last(once.expand(self.timesteps, *once.shape[1:]))


@dataclass(frozen=True, eq=False)
class CountPooled(Operation):
    """The synaptic operations of a layer's edges behind a max pool: what leaves it depends on where spikes fell.

    ``fan_out``: int64 [H, W] on the pool's map. The signal is the counts, [B], and nobody reads it.
    """

    layer: str
    fan_out: Tensor

    def run(self, state: State) -> Tensor:
        """Added to the layer's count."""
        at_positions = state.values[self.reads[0]].sum((0, 2), dtype=torch.int64)
        synops = (at_positions * self.fan_out).flatten(1).sum(1)
        state.reach(self.layer, synops)
        return synops


def _windows(spikes: Tensor, window: Window) -> Tensor:
    """[S, B, C, H, W] → [S, B, H', W', C, rows, columns], a view where nothing is padded. Padding is no spikes."""
    (rows, columns), (down, right) = window.padding, window.stride
    maps = spikes.permute(0, 1, 3, 4, 2)
    if rows or columns:
        maps = functional.pad(maps, (0, 0, columns, columns, rows, rows))
    return maps.unfold(2, window.kernel[0], down).unfold(3, window.kernel[1], right)


def _channels_first(pooled: Tensor) -> Tensor:
    """[S, B, H, W, C] → [S, B, C, H, W], laid out as before."""
    return pooled.contiguous().permute(0, 1, 4, 2, 3)
