"""What a kernel takes of a multiprocessor, by the compiler: no GPU is needed to know it.

A kernel is compiled for a target, and the assembler's own report is read: registers of a thread, what did not fit into
them, and shared memory. A fused kernel that spills is one whose tile is too large for its time-steps.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from models.kernels.configs import convolution_config, neuron_config
from models.kernels.device.convolve import convolve_kernel
from models.kernels.device.fire import fire_kernel
from models.kernels.device.steps import FULL, GAINS

_USAGE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+)")
_WARP = 32
_TYPES = {
    "currents": "*fp16",
    "spikes": "*i8",
    "weight": "*i8",
    "residual": "*i8",
    "out": "*i8",
    "fan_out": "*i64",
    "unit_spikes": "*i64",
    "synops": "*i64",
    "scale": "*fp32",
    "shift": "*fp32",
    "residual_scale": "*fp32",
    "mixing": "*fp32",
    "per_threshold": "fp32",
    "leak": "fp32",
    "initial": "fp32",
    "levels": "fp32",
    "rows": "i32",
    "in_step": "i32",
    "current_step": "i32",
    "spike_step": "i32",
}


@dataclass(frozen=True)
class Resources:
    """Of a compiled kernel: registers a thread; bytes a thread that did not fit into them; bytes of shared memory.

    tensor_cores: whether products are made by them.
    """

    registers: int
    spilled: int
    shared: int
    tensor_cores: bool


def neuron_resources(timesteps: int, *, factored: bool = False, capability: int = 90) -> Resources:
    """Of `models.kernels.neuron.fire` on float16 currents, channels-last, with norm, residual and counts."""
    channels, positions = 64, 1024
    steps = 1 if factored else timesteps
    config = neuron_config(steps, 2, channels * positions)
    constants = {
        "CHANNELS": channels,
        "POSITIONS": positions,
        "CHANNELS_LAST": True,
        "SCALED": True,
        "BLOCK": config.block,
        **_neurons(timesteps, steps),
    }
    return _resources(fire_kernel, {}, constants, config.warps, None, capability)


def convolution_resources(
    timesteps: int,
    channels: int,
    size: int,
    batch: int,
    *,
    factored: bool = False,
    whole: bool = True,
    capability: int = 90,
) -> Resources:
    """Of a 3×3 convolution of as many channels as it has inputs, with its neurons, residual and counts."""
    steps = 1 if factored else timesteps
    config = convolution_config(steps, batch * size * size, channels, channels, whole)
    constants = {
        "HEIGHT": size,
        "WIDTH": size,
        "IN": channels,
        "OUT": channels,
        "OUT_HEIGHT": size,
        "OUT_WIDTH": size,
        "KERNEL": 3,
        "STRIDE": 1,
        "PADDING": 1,
        "FIRES": True,
        "WHOLE": whole,
        "ROWS": config.rows,
        "COLUMNS": config.columns,
        "DEPTH": config.depth,
        **_neurons(timesteps, steps),
    }
    types: dict[str, str] = {} if whole else {"weight": "*fp16"}
    return _resources(convolve_kernel, types, constants, config.warps, config.stages, capability)


def _neurons(timesteps: int, steps: int) -> dict[str, Any]:
    factored = steps < timesteps
    return {
        "TIMESTEPS": timesteps,
        "STEPS": steps,
        "MIXING": (GAINS if factored else FULL).value,
        "SUMMED": factored,
        "SHIFTED": True,
        "RESIDUAL": True,
        "RESIDUAL_SCALED": True,
        "COUNTED": True,
    }


def _resources(
    kernel: Any,
    types: dict[str, str],
    constants: Mapping[str, Any],
    warps: int,
    stages: int | None,
    capability: int,
) -> Resources:
    """Raises RuntimeError where Triton interprets rather than compiles, or its disassembler is not to be run."""
    if not isinstance(kernel, triton.JITFunction):
        raise RuntimeError("kernels are interpreted here (TRITON_INTERPRET), and so not compiled")
    signature = {name: "constexpr" if name in constants else (_TYPES | types)[name] for name in kernel.arg_names}
    # What the launcher finds by itself: pointers and sizes that are multiples of 16.
    aligned: dict[tuple[int, ...], list[list[object]]] = {
        (index,): [["tt.divisibility", 16]]
        for index, kind in enumerate(signature.values())
        if kind.startswith("*") or kind == "i32"
    }
    options = {"num_warps": warps} | ({} if stages is None else {"num_stages": stages})
    compiled = triton.compile(
        ASTSource(kernel, signature, dict(constants), aligned),
        target=GPUTarget("cuda", capability, _WARP),
        options=options,
    )
    with tempfile.NamedTemporaryFile(suffix=".cubin") as binary:
        binary.write(compiled.asm["cubin"])
        binary.flush()
        tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        report = subprocess.run(
            [tool, "--dump-resource-usage", binary.name], capture_output=True, text=True, check=True
        )
    usage = _USAGE.search(report.stdout)
    if usage is None:
        raise RuntimeError(f"cuobjdump reports no usage: {report.stdout}{report.stderr}")
    registers, spilled, _ = map(int, usage.groups())
    return Resources(registers, spilled, compiled.metadata.shared, "mma" in compiled.asm["ptx"])
