"""A convolution of spikes with the neurons it feeds inside: currents never reach memory.

An implicit matrix product: rows are output positions of all samples, columns are output channels, and the sum runs over
the kernel's taps and the input channels. A program keeps the same output tile of all T time-steps in registers, so that
each tile of weights is read once for all, and ends with the neuron's time-steps (`models.kernels.device.steps`).

Spikes are whole numbers, so with 8-bit weights the sums are exact 32-bit integers. The tensor cores take 8-bit numbers
with a sign: spikes and sums of spikes up to 127. Wider ones, and 16-bit weights, are multiplied in float16 and added up
in float32; a whole number is exact there up to 2048.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import torch
import triton
from torch import Tensor

from models.kernels.configs import convolution_config
from models.kernels.contracts import (
    Fired,
    check_convolution,
    check_fan_out,
    check_mixing,
    check_per_channel,
    check_residual,
    check_threshold,
    mixing_of,
    spike_dtype,
)
from models.kernels.device.convolve import convolve_kernel
from models.kernels.device.steps import SEPARATE


def convolve_and_fire(
    spikes: Tensor,
    weight: Tensor,
    scale: Tensor,
    *,
    levels: int,
    stride: int = 1,
    padding: int = 0,
    shift: Tensor | None = None,
    threshold: float = 1.0,
    leak: float = 1.0,
    initial_membrane: float = 0.0,
    mixing: Tensor | None = None,
    residual: Tensor | None = None,
    residual_scale: Tensor | None = None,
    fan_out: Tensor | None = None,
    summed: bool = False,
) -> Fired:
    """Convolve spikes, and fire the layer of LM-HT neurons that they feed for T time-steps (T = 1…8).

    The current of a step is ``scale · (weight * spikes) + shift + residual_scale · residual``, per output channel.

    Args:
        spikes: int8 of 0…127 or int16; [T, B, C, H, W], channels-last within each step, or [T, B, C]; or with 1 in
            place of T where all steps get the same, as the sum over time of a factored layer.
        weight: int8 or float16 [C_out, C, k, k] channels-last, or [C_out, C]. With int8 spikes and int8 weights
            products are summed as 32-bit integers; otherwise in float32, exact for spikes up to 2048.
        scale: float32 [C_out]: what a product of one is worth, the norm's scale included.
        stride, padding: of both axes.
        residual: [T, B, C_out, H', W'] or with 1 as ``spikes``, channels-last; int8, int16, int32 or floating.
        fan_out: int64 [H', W'], as for `models.kernels.neuron.fire`, where the other arguments are described too.

    Returns spikes [T, B, C_out, H', W'], channels-last, or [T, B, C_out]; and counts.

    Raises:
        ValueError: where shapes, types, layouts or devices do not fit together.
    """
    steps = spikes.shape[0] if spikes.dim() else 0
    timesteps, kind = mixing_of(mixing, steps)
    check_threshold(threshold)
    check_mixing(mixing, spikes)
    spike_dtype(levels, timesteps, summed)
    shape = _checked(spikes, weight, scale, shift, residual, residual_scale, stride, padding)
    check_fan_out(fan_out, spikes, shape[3] * shape[4])
    out, unit_spikes, synops = _convolve(
        _maps(spikes),
        _maps(weight),
        scale,
        shift,
        _maps(residual),
        residual_scale,
        mixing,
        fan_out,
        stride,
        padding,
        timesteps,
        kind,
        levels,
        1 / threshold,
        leak,
        initial_membrane,
        summed,
        True,
    )
    out = out.flatten(2) if spikes.dim() == 3 else out
    return Fired(out, unit_spikes, synops) if fan_out is not None else Fired(out, None, None)


def convolve(
    spikes: Tensor,
    weight: Tensor,
    scale: Tensor,
    *,
    stride: int = 1,
    padding: int = 0,
    shift: Tensor | None = None,
    residual: Tensor | None = None,
    residual_scale: Tensor | None = None,
    precise: bool = False,
) -> Tensor:
    """The currents alone, shapes as in `convolve_and_fire`: for shortcuts, or where a fused tile does not fit.

    They are float16, or float32 where they are to be ``precise``: sums that grow along a residual path.

    Raises:
        ValueError: where shapes, types, layouts or devices do not fit together.
    """
    _checked(spikes, weight, scale, shift, residual, residual_scale, stride, padding)
    out: Tensor
    out, _, _ = _convolve(
        _maps(spikes),
        _maps(weight),
        scale,
        shift,
        _maps(residual),
        residual_scale,
        None,
        None,
        stride,
        padding,
        spikes.shape[0],
        SEPARATE.value,
        1,
        1.0,
        1.0,
        0.0,
        False,
        False,
        precise,
    )
    return out.flatten(2) if spikes.dim() == 3 else out


def _checked(
    spikes: Tensor,
    weight: Tensor,
    scale: Tensor,
    shift: Tensor | None,
    residual: Tensor | None,
    residual_scale: Tensor | None,
    stride: int,
    padding: int,
) -> Sequence[int]:
    """The shape [steps, B, C_out, H', W'] of the currents. Raises ValueError."""
    check_convolution(spikes, weight, stride, padding)
    channels = weight.shape[0]
    for name, tensor in (("scale", scale), ("shift", shift), ("residual_scale", residual_scale)):
        check_per_channel(tensor, name, spikes, channels)
    if residual_scale is not None and residual is None:
        raise ValueError("residual_scale is given without a residual")
    shape = _out_shape(_maps(spikes), _maps(weight), stride, padding)
    check_residual(residual, spikes, shape if spikes.dim() == 5 else shape[:3], channels_last=True)
    return shape


@torch.library.custom_op("lmht::convolve", mutates_args=())
def _convolve(
    spikes: Tensor,
    weight: Tensor,
    scale: Tensor,
    shift: Tensor | None,
    residual: Tensor | None,
    residual_scale: Tensor | None,
    mixing: Tensor | None,
    fan_out: Tensor | None,
    stride: int,
    padding: int,
    timesteps: int,
    kind: int,
    levels: int,
    per_threshold: float,
    leak: float,
    initial: float,
    summed: bool,
    fires: bool,
    precise: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    steps, batch, channels, height, width = spikes.shape
    out_channels, _, kernel, _ = weight.shape
    *_, out_height, out_width = _out_shape(spikes, weight, stride, padding)
    out, unit_spikes, synops = _outputs(
        spikes, weight, fan_out, stride, padding, timesteps, levels, summed, fires, precise
    )
    whole = spikes.dtype == weight.dtype == torch.int8
    rows = batch * out_height * out_width
    config = convolution_config(steps, rows, out_channels, channels, whole)
    convolve_kernel[triton.cdiv(rows, config.rows) * triton.cdiv(out_channels, config.columns),](
        spikes,
        weight,
        residual,
        scale,
        shift,
        residual_scale,
        mixing,
        fan_out,
        out,
        unit_spikes,
        synops,
        per_threshold,
        leak,
        initial,
        float(levels),
        rows,
        batch * channels * height * width,
        HEIGHT=height,
        WIDTH=width,
        IN=channels,
        OUT=out_channels,
        OUT_HEIGHT=out_height,
        OUT_WIDTH=out_width,
        KERNEL=kernel,
        STRIDE=stride,
        PADDING=padding,
        TIMESTEPS=timesteps,
        STEPS=steps,
        MIXING=kind,
        FIRES=fires,
        SHIFTED=shift is not None,
        RESIDUAL=residual is not None,
        RESIDUAL_SCALED=residual_scale is not None,
        SUMMED=summed,
        COUNTED=fan_out is not None,
        WHOLE=whole,
        ROWS=config.rows,
        COLUMNS=config.columns,
        DEPTH=config.depth,
        num_warps=config.warps,
        num_stages=config.stages,
    )
    return out, unit_spikes, synops


@_convolve.register_fake
def _(
    spikes: Tensor,
    weight: Tensor,
    scale: Tensor,
    shift: Tensor | None,
    residual: Tensor | None,
    residual_scale: Tensor | None,
    mixing: Tensor | None,
    fan_out: Tensor | None,
    stride: int,
    padding: int,
    timesteps: int,
    kind: int,
    levels: int,
    per_threshold: float,
    leak: float,
    initial: float,
    summed: bool,
    fires: bool,
    precise: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    return _outputs(spikes, weight, fan_out, stride, padding, timesteps, levels, summed, fires, precise)


def _outputs(
    spikes: Tensor,
    weight: Tensor,
    fan_out: Tensor | None,
    stride: int,
    padding: int,
    timesteps: int,
    levels: int,
    summed: bool,
    fires: bool,
    precise: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes or currents, not yet written, and counts of zero; without ``fan_out`` these have no elements."""
    steps, batch, channels, height, width = _out_shape(spikes, weight, stride, padding)
    steps = (1 if summed else timesteps) if fires else steps
    dtype = spike_dtype(levels, timesteps, summed) if fires else torch.float32 if precise else torch.float16
    out = spikes.new_empty((steps, batch, height, width, channels), dtype=dtype).permute(0, 1, 4, 2, 3)
    counted = batch if fan_out is not None else 0
    counts = [torch.zeros(counted, dtype=torch.int64, device=spikes.device) for _ in range(2)]
    return out, counts[0], counts[1]


def _out_shape(spikes: Tensor, weight: Tensor, stride: int, padding: int) -> tuple[int, int, int, int, int]:
    steps, batch, _, height, width = spikes.shape
    kernel = weight.shape[2]
    out = [(size + 2 * padding - kernel) // stride + 1 for size in (height, width)]
    return steps, batch, weight.shape[0], out[0], out[1]


@overload
def _maps(tensor: Tensor) -> Tensor: ...
@overload
def _maps(tensor: Tensor | None) -> Tensor | None: ...
def _maps(tensor: Tensor | None) -> Tensor | None:
    """A linear layer's tensor as that of a convolution over a single position."""
    return tensor[..., None, None] if tensor is not None and tensor.dim() in (2, 3) else tensor
