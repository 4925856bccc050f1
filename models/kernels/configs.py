"""How the kernels are cut into blocks: by a table, and by rule where it has no row; never searched for at run time.

`lmht bench kernels --tune` measures candidates on the GPU at hand and prints rows for the table. It is empty, since no
GPU was at hand yet: the rules come from what the compiler says of registers (`lmht bench kernels --resources`).
"""

from __future__ import annotations

from dataclasses import dataclass

import triton


@dataclass(frozen=True)
class NeuronConfig:
    """Elements of a sample that one program works on, and its warps of 32 threads."""

    block: int
    warps: int


def neuron_config(timesteps: int, element_bytes: int, sample: int) -> NeuronConfig:
    """For currents of so many steps in elements of so many bytes, and samples of so many elements.

    Sixteen bytes of each step's currents a thread, as long as T of them fit in registers beside the membranes; four
    warps, or fewer where a sample does not fill them.
    """
    each = 16 // element_bytes if timesteps * (16 // element_bytes) <= _MOST_CURRENTS else 4
    warps = 4
    while warps > 1 and 32 * each * warps // 2 >= sample:
        warps //= 2
    return NeuronConfig(32 * each * warps, warps)


@dataclass(frozen=True)
class ConvolutionConfig:
    """A program's output positions and channels, the input channels that it adds at once; warps; loads in flight."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int


def convolution_config(
    steps: int, rows: int, channels: int, depth: int, whole: bool, *, tuned: bool = True
) -> ConvolutionConfig:
    """For so many time-steps of output positions and channels, and input channels; ``whole``: 8-bit products.

    By rule the tiles of all steps together take 64 registers a thread, or fewer where there would be too few programs
    to keep all multiprocessors busy. Without ``tuned`` only the rule is asked.
    """
    measured = CONVOLUTIONS.get((steps, rows, channels, depth, whole)) if tuned else None
    if measured is not None:
        return measured
    tall, wide = next(tile for most, tile in _TILES if steps <= most)
    wide = min(wide, max(_NARROWEST, triton.next_power_of_2(channels)))
    while triton.cdiv(rows, tall) * triton.cdiv(channels, wide) < _PROGRAMS and (tall, wide) != (_LOWEST, _NARROWEST):
        if wide > _NARROWEST:
            wide //= 2
        else:
            tall //= 2
    added = min(64 if whole else 32, max(32, triton.next_power_of_2(depth)))
    return ConvolutionConfig(tall, wide, added, _warps(steps, tall, wide), _STAGES)


# By time-steps, output positions and channels, input channels, and whether products are of 8 bits.
CONVOLUTIONS: dict[tuple[int, int, int, int, bool], ConvolutionConfig] = {}


def _warps(steps: int, tall: int, wide: int) -> int:
    return 8 if steps * tall * wide > _A_FEW else 4


# Sums that four warps hold in 32 registers a thread.
_A_FEW = 32 * 128
# Multiprocessors of an H100 or H200.
_PROGRAMS = 132
_LOWEST, _NARROWEST = 16, 32
_STAGES = 3
# Tile by the most time-steps it is for.
_TILES = ((2, (128, 64)), (4, (64, 64)), (8, (64, 32)))

# Currents that a thread holds as float32: with 64 of them the compiler needs 96 of 255 registers.
_MOST_CURRENTS = 64
