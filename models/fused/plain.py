"""The neurons in plain PyTorch, where no kernel takes them: more than 8 time-steps, or single-threshold sub-steps."""

from __future__ import annotations

import torch
from torch import Tensor

from models.fused.operation import channels_last, width
from models.kernels.contracts import Fired


def fire(
    currents: Tensor,
    *,
    levels: int,
    threshold: float,
    leak: float,
    initial_membrane: float,
    mixing: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    residual: Tensor | None,
    residual_scale: Tensor | None,
    fan_out: Tensor,
    summed: bool,
    substeps: int = 1,
) -> Fired:
    """As `models.kernels.neuron.fire`, for any number of time-steps and levels; always counts.

    The leak acts on the first of every ``substeps`` steps. Spikes are int8, int16 or int32 as they need.
    """
    current = currents.float()
    if scale is not None:
        current = current * _channels(scale, current)
    if shift is not None:
        current = current + _channels(shift, current)
    if residual is not None:
        worth = 1.0 if residual_scale is None else _channels(residual_scale, current)
        current = current + residual.float() * worth
    current = current / threshold
    if mixing is not None:
        matrix = mixing[:, None] if mixing.dim() == 1 else mixing
        current = torch.tensordot(matrix, current, dims=1)
    spikes = _steps(current, levels, leak, initial_membrane, substeps)
    total = torch.stack(spikes).sum(0, keepdim=True)
    maximum = levels * (len(spikes) if summed else 1)
    handed = channels_last((total if summed else torch.stack(spikes)).to(width(maximum)))
    reached = total[0].double() * (fan_out if total.dim() == 5 else fan_out.reshape(()))
    return Fired(handed, total[0].double().flatten(1).sum(1).long(), reached.flatten(1).sum(1).long())


def _steps(currents: Tensor, levels: int, leak: float, initial: float, substeps: int) -> list[Tensor]:
    membrane = torch.full_like(currents[0], initial)
    spikes = []
    for step, current in enumerate(currents):
        membrane = (membrane if step % substeps else leak * membrane) + current
        spikes.append(membrane.floor().clamp(0, levels))
        membrane = membrane - spikes[-1]
    return spikes


def _channels(values: Tensor, like: Tensor) -> Tensor:
    """[C] for tensors [steps, B, C, …]."""
    return values.reshape(-1, *[1] * (like.dim() - 3))
