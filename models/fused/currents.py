"""Operations on real values: what no kernel of spikes takes, and what stands between a sum of currents and neurons."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.export.graph import Window
from models.fused.layers import Added
from models.fused.operation import Operation, State, channels_last
from models.kernels.convolution import convolve
from models.kernels.layout import MOST_TIMESTEPS


@dataclass(frozen=True, eq=False)
class Normalise(Operation):
    """(images − mean) / std, float32 [C, 1, 1] each; none where they change nothing."""

    mean: Tensor | None
    std: Tensor | None

    def run(self, state: State) -> Tensor:
        """[1, B, C, H, W] → the same shape."""
        images = state.values[self.reads[0]]
        if self.mean is not None:
            images = images - self.mean
        return channels_last(images if self.std is None else images / self.std)


@dataclass(frozen=True, eq=False)
class Convolve(Operation):
    """The currents that a convolution or matrix makes of spikes, plus what is added; by the kernel."""

    weight: Tensor
    scale: Tensor
    stride: int
    padding: int
    added: Added
    dtype: torch.dtype

    def run(self, state: State) -> Tensor:
        """See `models.kernels.convolution.convolve`. More steps than it takes are as many more samples to it."""
        spikes, added = state.values[self.reads[0]], self.added.arguments(state)
        steps = spikes.shape[:2]
        if len(spikes) > MOST_TIMESTEPS:
            spikes = spikes.flatten(0, 1)[None]
            added["residual"] = None if added["residual"] is None else added["residual"].flatten(0, 1)[None]
        out: Tensor = convolve(
            spikes,
            self.weight,
            self.scale,
            stride=self.stride,
            padding=self.padding,
            precise=self.dtype == torch.float32,
            **added,
        )
        return out.reshape(*steps, *out.shape[2:])


@dataclass(frozen=True, eq=False)
class Weigh(Operation):
    """A convolution, or a matrix product where there is no ``window``, by PyTorch: the bare products."""

    weight: Tensor
    window: Window | None
    groups: int

    def run(self, state: State) -> Tensor:
        """[S, B, …] in any type → [S, B, out, …] in that of the weights."""
        given = state.values[self.reads[0]]
        flat = given.flatten(0, 1).to(self.weight.dtype)
        with exact():
            if self.window is None:
                out = functional.linear(flat, self.weight)
            else:
                w = self.window
                out = functional.conv2d(flat, self.weight, None, w.stride, w.padding, w.dilation, self.groups)
        return channels_last(out.unflatten(0, given.shape[:2]))


@dataclass(frozen=True, eq=False)
class Affine(Operation):
    """x·scale + shift per channel, [C, 1, 1] or [C] each; no shift where it is zero."""

    scale: Tensor
    shift: Tensor | None
    dtype: torch.dtype

    def run(self, state: State) -> Tensor:
        """[S, B, C, …] → the same shape."""
        scaled = state.values[self.reads[0]] * self.scale
        return channels_last((scaled if self.shift is None else scaled + self.shift).to(self.dtype))


@dataclass(frozen=True, eq=False)
class Sum(Operation):
    """The sum of two signals, each times a number: what a spike is worth."""

    worth: tuple[float, float]
    dtype: torch.dtype

    def run(self, state: State) -> Tensor:
        """[S, B, …] twice, or one of them with one step → the same shape."""
        first, second = (
            (state.values[name] if factor == 1 else state.values[name] * factor).to(self.dtype)
            for name, factor in zip(self.reads, self.worth, strict=True)
        )
        return channels_last(first + second)


@dataclass(frozen=True, eq=False)
class Pool(Operation):
    """The mean or the largest value of each window; padding counts as zeros in a mean, and is never the largest."""

    window: Window
    largest: bool

    def run(self, state: State) -> Tensor:
        """[S, B, C, H, W] → [S, B, C, H', W']."""
        given = state.values[self.reads[0]]
        pool = functional.max_pool2d if self.largest else functional.avg_pool2d
        pooled = pool(given.flatten(0, 1), self.window.kernel, self.window.stride, self.window.padding)
        return channels_last(pooled.unflatten(0, given.shape[:2]))


@dataclass(frozen=True, eq=False)
class TimeMean(Operation):
    """The mean over the time-steps."""

    def run(self, state: State) -> Tensor:
        """[S, B, …] → [1, B, …]."""
        return channels_last(state.values[self.reads[0]].mean(0, keepdim=True))


@dataclass(frozen=True, eq=False)
class ReadOut(Operation):
    """The last matrix, float32, of what was summed over time: ``weight`` [out, in] has the mean's divisor inside."""

    weight: Tensor
    bias: Tensor

    def run(self, state: State) -> Tensor:
        """[S, B, in] → [1, B, out]."""
        given = state.values[self.reads[0]]
        summed = (
            given.sum(0, keepdim=True) if given.is_floating_point() else given.sum(0, keepdim=True, dtype=torch.int32)
        )
        with exact():
            return functional.linear(summed.float(), self.weight, self.bias)


@contextmanager
def exact() -> Iterator[None]:
    """Products of float32 numbers with all 24 bits on a GPU, rather than the 11 of TF32, PyTorch's default for cuDNN.

    The switch is the process's: networks are run, or captured, in one thread at a time.
    """
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield
