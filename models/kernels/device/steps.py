"""The neuron's time-steps on a tile that is in registers: what both kernels end with.

Membranes are kept in units of the threshold, so that a spike is their whole part and needs no division::

    x_t = Σ_j ω_tj · y_j / θ        y: currents after norm and residual
    v_t = λ · v_{t-1} + x_t
    s_t = clip(floor(v_t), 0, L)
    v_t ← v_t − s_t

Source: Hao et al., LM-HT SNN, NeurIPS 2024 (arXiv 2402.00411).
"""

from __future__ import annotations

import triton
import triton.language as tl

# How the currents of the time-steps are made from those that a layer gets.
SEPARATE: tl.constexpr = tl.constexpr(0)  # one for each step, as it comes
FULL: tl.constexpr = tl.constexpr(1)  # one for each step, mixed by ω [T, T]
GAINS: tl.constexpr = tl.constexpr(2)  # one for all steps, times g [T]


@triton.jit
def run_steps(
    currents,  # tuple of float32 tiles, one for each time-step, or a single one
    mixing,  # float32: ω [T, T], g [T], or nothing
    per_threshold,
    leak,
    initial,
    levels,
    TIMESTEPS: tl.constexpr,
    MIXING: tl.constexpr,
    SUMMED: tl.constexpr,
):
    """Tuple of float32 tiles: Σ_t s_t, and unless only that is needed the unit spikes of each step, s_1 … s_T."""
    membrane = initial
    spikes = ()
    for t in tl.static_range(TIMESTEPS):
        if MIXING == FULL:
            current = currents[0] * tl.load(mixing + t * TIMESTEPS)
            for j in tl.static_range(1, TIMESTEPS):
                current += currents[j] * tl.load(mixing + t * TIMESTEPS + j)
        elif MIXING == GAINS:
            current = currents[0] * tl.load(mixing + t)
        else:
            current = currents[t]
        membrane = leak * membrane + current * per_threshold
        spike = tl.minimum(tl.maximum(tl.floor(membrane), 0.0), levels)
        membrane -= spike
        if t == 0:
            total = spike
        else:
            total += spike
        if not SUMMED:
            spikes = spikes + (spike,)
    return (total,) + spikes
