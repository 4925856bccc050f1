"""What the kernels give back, and what they refuse before a GPU would read beyond a tensor's end."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from models.kernels.device.steps import FULL, GAINS, SEPARATE
from models.kernels.layout import check_timesteps, is_channels_last, layout_of

MOST_LEVELS = 127
CURRENT_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.int32)
RESIDUAL_TYPES = (*CURRENT_TYPES, torch.int8, torch.int16)


class Fired(NamedTuple):
    """What a layer of neurons did.

    spikes: unit spikes, [T, B, …] int8; or their sum over time, [1, B, …], int8 up to 127 and int16 beyond.
    unit_spikes, synops: totals of each sample, [B] int64; None where they were not asked for.
    """

    spikes: Tensor
    unit_spikes: Tensor | None
    synops: Tensor | None


def mixing_of(mixing: Tensor | None, steps: int) -> tuple[int, int]:
    """The number of time-steps, and how their currents are made: `SEPARATE`, `FULL` or `GAINS`.

    Raises ValueError where the mixing does not fit currents of so many steps.
    """
    if mixing is None:
        timesteps, kind = steps, SEPARATE.value
    elif mixing.dim() == 1:
        if steps != 1:
            raise ValueError(f"gains [{len(mixing)}] take one current for all time-steps, not {steps}")
        timesteps, kind = len(mixing), GAINS.value
    elif mixing.shape == (steps, steps):
        timesteps, kind = steps, FULL.value
    else:
        raise ValueError(f"mixing is {list(mixing.shape)}, but {steps} time-steps need {[steps, steps]}")
    check_timesteps(timesteps)
    return timesteps, kind


def spike_dtype(levels: int, timesteps: int, summed: bool) -> torch.dtype:
    """Of the spikes of one step, or of their sum. Raises ValueError for more levels than 8 bits with a sign hold."""
    if not 1 <= levels <= MOST_LEVELS:
        raise ValueError(f"{levels} levels: a spike of 8 bits has 1 to {MOST_LEVELS}")
    return torch.int16 if summed and levels * timesteps > MOST_LEVELS else torch.int8


def check_threshold(threshold: float) -> None:
    """Raises ValueError where it is not positive."""
    if not threshold > 0:
        raise ValueError(f"the threshold is {threshold}, not positive")


def check_per_channel(tensor: Tensor | None, name: str, like: Tensor, channels: int) -> None:
    """A float32 tensor [C] on the device of ``like``, or nothing. Raises ValueError."""
    _check(tensor, name, like, (torch.float32,), (channels,))


def check_mixing(mixing: Tensor | None, like: Tensor) -> None:
    """A contiguous float32 tensor on the device of ``like``, or nothing. Raises ValueError."""
    _check(mixing, "mixing", like, (torch.float32,), None if mixing is None else tuple(mixing.shape))


def check_fan_out(fan_out: Tensor | None, like: Tensor, positions: int) -> None:
    """An int64 tensor of as many elements as there are positions, or nothing. Raises ValueError."""
    if fan_out is not None and fan_out.numel() != positions:
        raise ValueError(f"fan_out has {fan_out.numel()} elements for {positions} positions")
    _check(fan_out, "fan_out", like, (torch.int64,), None if fan_out is None else tuple(fan_out.shape))


def check_residual(residual: Tensor | None, like: Tensor, shape: tuple[int, ...], channels_last: bool) -> None:
    """A tensor of the layer's own shape and layout, or nothing. Raises ValueError."""
    if residual is None:
        return
    if residual.dtype not in RESIDUAL_TYPES:
        raise ValueError(f"residual is {residual.dtype}, not one of {_names(RESIDUAL_TYPES)}")
    if tuple(residual.shape) != shape:
        raise ValueError(f"residual is {list(residual.shape)}, but the currents are {list(shape)}")
    laid = residual.permute(0, 1, 3, 4, 2) if channels_last and residual.dim() == 5 else residual
    if not laid.is_contiguous():
        raise ValueError("residual is laid out otherwise than the currents")
    _same_device(residual, "residual", like)


def check_currents(currents: Tensor) -> None:
    """Raises ValueError for a type that the kernels do not read."""
    if currents.dtype not in CURRENT_TYPES:
        raise ValueError(f"currents are {currents.dtype}, not one of {_names(CURRENT_TYPES)}")


def check_convolution(spikes: Tensor, weight: Tensor, stride: int, padding: int) -> None:
    """Raises ValueError where spikes and weights are not such as `convolve_and_fire` takes."""
    if spikes.dtype not in (torch.int8, torch.int16):
        raise ValueError(f"spikes are {spikes.dtype}, not int8, int16")
    if weight.dtype not in (torch.int8, torch.float16):
        raise ValueError(f"weight is {weight.dtype}, not int8, float16")
    layout_of(spikes, "spikes")
    if not is_channels_last(spikes):
        raise ValueError("spikes are not channels-last within each step")
    if weight.dim() != (4 if spikes.dim() == 5 else 2):
        raise ValueError(f"weight {list(weight.shape)} does not go with spikes {list(spikes.shape)}")
    if weight.shape[1] != spikes.shape[2]:
        raise ValueError(f"weight takes {weight.shape[1]} channels, but spikes have {spikes.shape[2]}")
    if weight.dim() == 4 and weight.shape[2] != weight.shape[3]:
        raise ValueError(f"the kernel is {list(weight.shape[2:])}, not square")
    if not (weight.permute(0, 2, 3, 1) if weight.dim() == 4 else weight).is_contiguous():
        raise ValueError("weight is not channels-last")
    if stride < 1 or padding < 0:
        raise ValueError(f"stride {stride}, padding {padding}")
    if spikes.dim() == 3 and (stride, padding) != (1, 0):
        raise ValueError("a linear layer has neither stride nor padding")
    if spikes.dim() == 5 and min(spikes.shape[3:]) + 2 * padding < weight.shape[2]:
        raise ValueError(
            f"a kernel of {weight.shape[2]} does not fit into {list(spikes.shape[3:])}, padded by {padding}"
        )
    _same_device(weight, "weight", spikes)


def _check(
    tensor: Tensor | None, name: str, like: Tensor, dtypes: tuple[torch.dtype, ...], shape: tuple[int, ...] | None
) -> None:
    if tensor is None:
        return
    if tensor.dtype not in dtypes:
        raise ValueError(f"{name} is {tensor.dtype}, not {_names(dtypes)}")
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} is {list(tensor.shape)}, not {list(shape or ())}")
    if not tensor.is_contiguous():
        raise ValueError(f"{name} is not contiguous")
    _same_device(tensor, name, like)


def _same_device(tensor: Tensor, name: str, like: Tensor) -> None:
    if tensor.device != like.device:
        raise ValueError(f"{name} is on {tensor.device}, the rest on {like.device}")


def _names(dtypes: tuple[torch.dtype, ...]) -> str:
    return ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
