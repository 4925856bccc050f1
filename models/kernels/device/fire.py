"""Kernel 1: currents to spikes in one pass. Its host side, with all that is asked of its arguments, is `..neuron`."""

from __future__ import annotations

import triton
import triton.language as tl

from models.kernels.device.steps import run_steps


@triton.jit
def fire_kernel(
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
    levels,
    current_step,  # elements from one time-step to the next
    spike_step,
    CHANNELS: tl.constexpr,
    POSITIONS: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    TIMESTEPS: tl.constexpr,
    STEPS: tl.constexpr,  # of the currents: T, or 1
    MIXING: tl.constexpr,
    SCALED: tl.constexpr,
    SHIFTED: tl.constexpr,
    RESIDUAL: tl.constexpr,
    RESIDUAL_SCALED: tl.constexpr,
    SUMMED: tl.constexpr,
    COUNTED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A block of one sample's neurons, at all time-steps; programs are blocks by samples."""
    sample: tl.constexpr = CHANNELS * POSITIONS
    batch = tl.program_id(1)
    within = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = within < sample
    if CHANNELS_LAST:
        channel, position = within % CHANNELS, within // CHANNELS
    else:
        channel, position = within // POSITIONS, within % POSITIONS
    first = batch.to(tl.int64) * sample
    loaded = ()
    for t in tl.static_range(STEPS):
        at = first + t * current_step.to(tl.int64)
        current = tl.load(currents + at + within, inside, other=0).to(tl.float32)
        if SCALED:
            current *= tl.load(scale + channel, inside, other=0)
        if SHIFTED:
            current += tl.load(shift + channel, inside, other=0)
        if RESIDUAL:
            identity = tl.load(residual + at + within, inside, other=0).to(tl.float32)
            if RESIDUAL_SCALED:
                identity *= tl.load(residual_scale + channel, inside, other=0)
            current += identity
        loaded = loaded + (current,)
    fired = run_steps(loaded, mixing, per_threshold, leak, initial, levels, TIMESTEPS, MIXING, SUMMED)
    total = fired[0].to(tl.int32)
    if SUMMED:
        tl.store(spikes + first + within, total.to(spikes.dtype.element_ty), inside)
    else:
        for t in tl.static_range(TIMESTEPS):
            at = first + t * spike_step.to(tl.int64)
            tl.store(spikes + at + within, fired[1 + t].to(spikes.dtype.element_ty), inside)
    if COUNTED:
        # What lies beyond the sample fires too, since its shift may.
        total = tl.where(inside, total, 0)
        reached = tl.load(fan_out + position, inside, other=0)
        tl.atomic_add(unit_spikes + batch, tl.sum(total).to(tl.int64))
        tl.atomic_add(synops + batch, tl.sum(total.to(tl.int64) * reached))
