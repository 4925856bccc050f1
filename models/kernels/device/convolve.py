"""Kernel 2: a convolution with the neurons it feeds inside. Its host side is `..convolution`."""

from __future__ import annotations

import triton
import triton.language as tl

from models.kernels.device.steps import run_steps


@triton.jit
def convolve_kernel(
    spikes,  # [STEPS, B, H, W, C_in]
    weight,  # [C_out, KH, KW, C_in]
    residual,  # [STEPS, B, OH, OW, C_out]
    scale,
    shift,
    residual_scale,
    mixing,
    fan_out,
    out,  # spikes [T or 1, B, OH, OW, C_out]; or currents [STEPS, …]
    unit_spikes,
    synops,
    per_threshold,
    leak,
    initial,
    levels,
    rows,  # B · OH · OW
    in_step,  # elements of the input from one time-step to the next
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    IN: tl.constexpr,
    OUT: tl.constexpr,
    OUT_HEIGHT: tl.constexpr,
    OUT_WIDTH: tl.constexpr,
    KERNEL: tl.constexpr,
    STRIDE: tl.constexpr,
    PADDING: tl.constexpr,
    TIMESTEPS: tl.constexpr,
    STEPS: tl.constexpr,
    MIXING: tl.constexpr,
    FIRES: tl.constexpr,
    SHIFTED: tl.constexpr,
    RESIDUAL: tl.constexpr,
    RESIDUAL_SCALED: tl.constexpr,
    SUMMED: tl.constexpr,
    COUNTED: tl.constexpr,
    WHOLE: tl.constexpr,  # whether products are of whole numbers of 8 bits
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """A tile of output positions, of all samples, by output channels, at all time-steps."""
    positions: tl.constexpr = OUT_HEIGHT * OUT_WIDTH
    columns_of_programs: tl.constexpr = (OUT + COLUMNS - 1) // COLUMNS
    depths: tl.constexpr = (IN + DEPTH - 1) // DEPTH
    # Programs that follow each other read the same rows: the spikes stay in the cache, as the weights do anyway.
    column = tl.program_id(0) % columns_of_programs * COLUMNS + tl.arange(0, COLUMNS)
    row = tl.program_id(0) // columns_of_programs * ROWS + tl.arange(0, ROWS)
    position = row % positions
    sample = row // positions
    top = position // OUT_WIDTH * STRIDE - PADDING
    left = position % OUT_WIDTH * STRIDE - PADDING
    inside_rows = row < rows
    inside_columns = column < OUT
    deep = tl.arange(0, DEPTH)
    start = (sample * HEIGHT + top) * WIDTH + left
    accumulator: tl.constexpr = tl.int32 if WHOLE else tl.float32
    sums = ()
    for _ in tl.static_range(STEPS):
        sums = sums + (tl.zeros((ROWS, COLUMNS), accumulator),)
    for i in range(KERNEL * KERNEL * depths):
        tap = i // depths
        down, right = tap // KERNEL, tap % KERNEL
        channel = i % depths * DEPTH + deep
        read = inside_rows & (top + down >= 0) & (top + down < HEIGHT) & (left + right >= 0) & (left + right < WIDTH)
        if IN % DEPTH:
            of_spikes = read[:, None] & (channel < IN)[None, :]
            of_weight = (channel < IN)[:, None] & inside_columns[None, :]
        else:
            of_spikes = read[:, None]
            of_weight = inside_columns[None, :]
        weights = tl.load(
            weight + column[None, :] * (KERNEL * KERNEL * IN) + (tap * IN + channel)[:, None], of_weight, other=0
        )
        at = (start + down * WIDTH + right)[:, None] * IN + channel[None, :]
        added = ()
        for t in tl.static_range(STEPS):
            taken = tl.load(spikes + t * in_step.to(tl.int64) + at, of_spikes, other=0)
            if WHOLE:
                added = added + (tl.dot(taken, weights, sums[t], out_dtype=tl.int32),)
            else:
                added = added + (tl.dot(taken.to(tl.float16), weights.to(tl.float16), sums[t]),)
        sums = added

    out_step = rows.to(tl.int64) * OUT
    at = row[:, None] * OUT + column[None, :]
    inside = inside_rows[:, None] & inside_columns[None, :]
    by = tl.load(scale + column, inside_columns, other=0)[None, :]
    currents = ()
    for t in tl.static_range(STEPS):
        current = sums[t].to(tl.float32) * by
        if SHIFTED:
            current += tl.load(shift + column, inside_columns, other=0)[None, :]
        if RESIDUAL:
            identity = tl.load(residual + t * out_step + at, inside, other=0).to(tl.float32)
            if RESIDUAL_SCALED:
                identity *= tl.load(residual_scale + column, inside_columns, other=0)[None, :]
            current += identity
        currents = currents + (current,)
    if not FIRES:
        for t in tl.static_range(STEPS):
            tl.store(out + t * out_step + at, currents[t].to(out.dtype.element_ty), inside)
        return
    fired = run_steps(currents, mixing, per_threshold, leak, initial, levels, TIMESTEPS, MIXING, SUMMED)
    total = fired[0].to(tl.int32)
    if SUMMED:
        tl.store(out + at, total.to(out.dtype.element_ty), inside)
    else:
        for t in tl.static_range(TIMESTEPS):
            tl.store(out + t * out_step + at, fired[1 + t].to(out.dtype.element_ty), inside)
    if COUNTED:
        of_row = tl.sum(tl.where(inside, total, 0), axis=1)
        reached = tl.load(fan_out + position)
        if positions % ROWS == 0:
            # All rows are of one sample.
            only = tl.program_id(0) // columns_of_programs * ROWS // positions
            tl.atomic_add(unit_spikes + only, tl.sum(of_row).to(tl.int64))
            tl.atomic_add(synops + only, tl.sum(of_row.to(tl.int64) * reached))
        else:
            tl.atomic_add(unit_spikes + sample, of_row.to(tl.int64), mask=inside_rows)
            tl.atomic_add(synops + sample, of_row.to(tl.int64) * reached, mask=inside_rows)
