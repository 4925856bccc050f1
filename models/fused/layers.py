"""Operations that make spikes: with the convolution inside, or from currents that are there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from models.fused import plain
from models.fused.operation import Operation, State
from models.kernels.contracts import MOST_LEVELS, Fired
from models.kernels.convolution import convolve_and_fire
from models.kernels.layout import MOST_TIMESTEPS
from models.kernels.neuron import fire


@dataclass(frozen=True, eq=False)
class Firing:
    """A layer's neurons as the kernels take them, see `models.kernels.neuron.fire`.

    ``fan_out``: int64 [H, W] or [1, 1], over those edges that begin at the layer's own spikes. ``substeps``: steps
    from one leak to the next.
    """

    timesteps: int
    levels: int
    threshold: float
    leak: float
    initial_membrane: float
    mixing: Tensor | None
    summed: bool
    substeps: int
    fan_out: Tensor

    @property
    def has_kernel(self) -> bool:
        """Whether the kernels take it."""
        return self.timesteps <= MOST_TIMESTEPS and self.levels <= MOST_LEVELS and self.substeps == 1

    def arguments(self) -> dict[str, Any]:
        """For the kernels."""
        return {
            "levels": self.levels,
            "threshold": self.threshold,
            "leak": self.leak,
            "initial_membrane": self.initial_membrane,
            "mixing": self.mixing,
            "summed": self.summed,
            "fan_out": self.fan_out,
        }


@dataclass(frozen=True, eq=False)
class Added:
    """What is added to a current, per channel: ``shift`` [C], and the residual, times ``residual_scale`` [C]."""

    shift: Tensor | None = None
    residual: str | None = None
    residual_scale: Tensor | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The residual's name."""
        return () if self.residual is None else (self.residual,)

    def arguments(self, state: State) -> dict[str, Any]:
        """For the kernels."""
        residual = None if self.residual is None else state.values[self.residual]
        return {"shift": self.shift, "residual": residual, "residual_scale": self.residual_scale}


@dataclass(frozen=True, eq=False)
class ConvolveAndFire(Operation):
    """A convolution or matrix of spikes with its neurons inside."""

    weight: Tensor
    scale: Tensor
    stride: int
    padding: int
    added: Added
    firing: Firing

    def run(self, state: State) -> Tensor:
        """See `models.kernels.convolution.convolve_and_fire`."""
        fired = convolve_and_fire(
            state.values[self.reads[0]],
            self.weight,
            self.scale,
            stride=self.stride,
            padding=self.padding,
            **self.added.arguments(state),
            **self.firing.arguments(),
        )
        return _counted(self.name, fired, state)


@dataclass(frozen=True, eq=False)
class Fire(Operation):
    """Neurons of currents that are there, or of spikes: ``scale`` [C] says what a one of them is worth."""

    scale: Tensor | None
    added: Added
    firing: Firing

    def run(self, state: State) -> Tensor:
        """See `models.kernels.neuron.fire`, and `models.fused.plain` where it does not take them."""
        currents = state.values[self.reads[0]]
        if not currents.is_floating_point():
            currents = currents.to(torch.int32)
        run: Callable[..., Fired] = fire
        if not self.firing.has_kernel:
            run = partial(plain.fire, substeps=self.firing.substeps)
        fired = run(currents, scale=self.scale, **self.added.arguments(state), **self.firing.arguments())
        return _counted(self.name, fired, state)


def _counted(layer: str, fired: Fired, state: State) -> Tensor:
    assert fired.unit_spikes is not None
    assert fired.synops is not None
    state.unit_spikes[layer], state.synops[layer] = fired.unit_spikes, fired.synops
    return fired.spikes
