"""Currents to spikes in one pass: norm, residual, T-GIM, membrane, firing, reset and counts.

Each current is read once and each spike written once; membranes never leave the registers. The kernel is bound by
memory, so what counts is that all accesses are coalesced and 16 bytes wide, which the blocks of `configs` are for.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from models.kernels.configs import neuron_config
from models.kernels.contracts import (
    Fired,
    check_currents,
    check_fan_out,
    check_mixing,
    check_per_channel,
    check_residual,
    check_threshold,
    mixing_of,
    spike_dtype,
)
from models.kernels.device.fire import fire_kernel
from models.kernels.layout import layout_of


def fire(
    currents: Tensor,
    *,
    levels: int,
    threshold: float = 1.0,
    leak: float = 1.0,
    initial_membrane: float = 0.0,
    mixing: Tensor | None = None,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    residual: Tensor | None = None,
    residual_scale: Tensor | None = None,
    fan_out: Tensor | None = None,
    summed: bool = False,
) -> Fired:
    """Fire a layer of LM-HT neurons for T time-steps (T = 1…8).

    The current of a step is ``scale · currents + shift + residual_scale · residual``, per channel; see
    `models.kernels.device.steps` for what becomes of it, and for the source of the formula.

    Args:
        currents: float16, bfloat16, float32 or int32; [T, B, C, H, W] or [T, B, C], or with 1 in place of T where all
            steps get the same; contiguous, or channels-last within each step.
        levels: L, 1…127.
        threshold: θ, positive.
        leak: λ.
        initial_membrane: v_0 as a fraction of θ.
        mixing: ω, float32 [T, T]; or for a single current the gains g [T]; none: each step gets its own current.
        scale, shift, residual_scale: float32 [C].
        residual: of the shape and layout of ``currents``, of one of its types or int8 or int16.
        fan_out: int64 [H, W], the synapses that a unit spike at each position reaches, over all outgoing edges;
            asks for the counts.
        summed: whether the sum of spikes over time is handed on rather than each step's.

    Returns spikes of the layout of ``currents``, and counts. Computes in float32. Works under CUDA graphs and
    `torch.compile`, as the operator ``lmht::fire``.

    Raises:
        ValueError: where shapes, types, layouts or devices do not fit together.
    """
    check_currents(currents)
    layout = layout_of(currents, "currents")
    timesteps, kind = mixing_of(mixing, layout.steps)
    check_threshold(threshold)
    check_mixing(mixing, currents)
    for name, tensor in (("scale", scale), ("shift", shift), ("residual_scale", residual_scale)):
        check_per_channel(tensor, name, currents, layout.channels)
    if residual_scale is not None and residual is None:
        raise ValueError("residual_scale is given without a residual")
    check_residual(residual, currents, tuple(currents.shape), layout.channels_last)
    check_fan_out(fan_out, currents, layout.positions)
    spike_dtype(levels, timesteps, summed)
    spikes, unit_spikes, synops = _fire(
        currents,
        mixing,
        scale,
        shift,
        residual,
        residual_scale,
        fan_out,
        timesteps,
        kind,
        levels,
        1 / threshold,
        leak,
        initial_membrane,
        summed,
    )
    return Fired(spikes, unit_spikes, synops) if fan_out is not None else Fired(spikes, None, None)


@torch.library.custom_op("lmht::fire", mutates_args=())
def _fire(
    currents: Tensor,
    mixing: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    residual: Tensor | None,
    residual_scale: Tensor | None,
    fan_out: Tensor | None,
    timesteps: int,
    kind: int,
    levels: int,
    per_threshold: float,
    leak: float,
    initial: float,
    summed: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    layout = layout_of(currents, "currents")
    spikes, unit_spikes, synops = _outputs(currents, fan_out, timesteps, levels, summed)
    config = neuron_config(layout.steps, currents.element_size(), layout.sample)
    step = layout.batch * layout.sample
    fire_kernel[triton.cdiv(layout.sample, config.block), layout.batch](
        currents,
        residual,
        scale,
        shift,
        residual_scale,
        mixing,
        fan_out,
        spikes,
        unit_spikes,
        synops,
        per_threshold,
        leak,
        initial,
        float(levels),
        step,
        step,
        CHANNELS=layout.channels,
        POSITIONS=layout.positions,
        CHANNELS_LAST=layout.channels_last,
        TIMESTEPS=timesteps,
        STEPS=layout.steps,
        MIXING=kind,
        SCALED=scale is not None,
        SHIFTED=shift is not None,
        RESIDUAL=residual is not None,
        RESIDUAL_SCALED=residual_scale is not None,
        SUMMED=summed,
        COUNTED=fan_out is not None,
        BLOCK=config.block,
        num_warps=config.warps,
    )
    return spikes, unit_spikes, synops


@_fire.register_fake
def _(
    currents: Tensor,
    mixing: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    residual: Tensor | None,
    residual_scale: Tensor | None,
    fan_out: Tensor | None,
    timesteps: int,
    kind: int,
    levels: int,
    per_threshold: float,
    leak: float,
    initial: float,
    summed: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return _outputs(currents, fan_out, timesteps, levels, summed)


def _outputs(
    currents: Tensor, fan_out: Tensor | None, timesteps: int, levels: int, summed: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes, not yet written, and counts of zero; without ``fan_out`` these have no elements."""
    steps = 1 if summed else timesteps
    batch = currents.shape[1] if fan_out is not None else 0
    dtype = spike_dtype(levels, timesteps, summed)
    spikes = torch.empty((steps, *currents.shape[1:]), dtype=dtype, device=currents.device)
    if currents.dim() == 5 and not currents.is_contiguous():
        spikes = _channels_last(spikes)
    counts = [torch.zeros(batch, dtype=torch.int64, device=currents.device) for _ in range(2)]
    return spikes, counts[0], counts[1]


def _channels_last(like: Tensor) -> Tensor:
    """An uninitialised tensor [T, B, C, H, W] of the same kind, laid out as [T, B, H, W, C]."""
    steps, batch, channels, height, width = like.shape
    return like.new_empty((steps, batch, height, width, channels)).permute(0, 1, 4, 2, 3)
