"""Each case as work for the GPU: our kernels, and what they replace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from models.bench.kernels.cases import Case, LayerCase, NeuronCase, Tgim
from models.kernels.convolution import convolve_and_fire
from models.kernels.neuron import fire
from models.neuron import Neuron

# The alternatives by name: the same call on one input set after the other.
Calls = Mapping[str, list[Callable[[], object]]]
COPY, NEURON, EAGER = "copy", "fire", "eager PyTorch"
FUSED_INT8, FUSED_FP16, CUDNN = "fused, int8", "fused, float16", "cuDNN float16, then fire"

# Larger than the second-level cache of any GPU that is meant (H200: 60 MB).
CACHE_BYTES = 256_000_000
_LEVELS, _THRESHOLD, _LEAK = 2, 1.0, 0.9
_MOST_SETS = 64


def calls(case: Case, seed: int = 0, device: str = "cuda") -> Calls:
    """The case's alternatives, each of which does the same work on the same numbers."""
    generator = torch.Generator(device).manual_seed(seed)
    return _neuron(case, generator) if isinstance(case, NeuronCase) else _layer(case, generator)


def _neuron(case: NeuronCase, generator: torch.Generator) -> Calls:
    device = generator.device
    steps = case.timesteps if case.tgim == "full" else 1
    shape = (steps, case.batch, case.channels, case.size, case.size)
    sets = _sets(case.moved_bytes)
    currents = [_channels_last(torch.randn(shape, generator=generator, device=device).half()) for _ in range(sets)]
    scale = torch.rand(case.channels, generator=generator, device=device) + 0.5
    shift = torch.randn(case.channels, generator=generator, device=device)
    mixing = _mixing(case.tgim, case.timesteps, device)
    fan_out = torch.full((case.size, case.size), 9 * case.channels, device=device)
    ours = partial(
        fire,
        levels=_LEVELS,
        threshold=_THRESHOLD,
        leak=_LEAK,
        mixing=mixing,
        scale=scale,
        shift=shift,
        fan_out=fan_out,
        summed=case.tgim == "factored",
    )
    eager = _eager_neurons(case.tgim, case.timesteps, device)
    # A copy reads and writes half each of what the kernel moves in all.
    half = case.moved_bytes // 2
    blocks = [torch.randint(0, 255, (half,), dtype=torch.uint8, device=device) for _ in range(sets)]
    targets = [torch.empty_like(block) for block in blocks]
    by_channel = (1, -1, 1, 1)

    def by_eager(current: Tensor) -> Tensor:
        normed = current.flatten(0, 1) * scale.half().view(by_channel) + shift.half().view(by_channel)
        return eager(normed)

    return {
        COPY: [partial(target.copy_, block) for target, block in zip(targets, blocks, strict=True)],
        NEURON: [partial(ours, current) for current in currents],
        EAGER: [partial(by_eager, current) for current in currents],
    }


def _layer(case: LayerCase, generator: torch.Generator) -> Calls:
    layer, device = case.layer, generator.device
    shape = (case.steps, case.batch, layer.channels, layer.size, layer.size)
    elements = case.steps * case.batch * layer.channels * layer.size**2
    most = _LEVELS * (case.timesteps if case.tgim == "factored" else 1)
    spikes = [
        _channels_last(torch.randint(0, most + 1, shape, generator=generator, device=device, dtype=torch.int8))
        for _ in range(_sets(elements))
    ]
    as_half = [each.flatten(0, 1).half() for each in spikes]
    weight = torch.randint(
        -127, 128, (layer.out, layer.channels, layer.kernel, layer.kernel), generator=generator, device=device
    )
    int8 = weight.to(torch.int8).contiguous(memory_format=torch.channels_last)
    half = (weight / 127).half().contiguous(memory_format=torch.channels_last)
    fan_in = layer.channels * layer.kernel**2
    scale = (torch.rand(layer.out, generator=generator, device=device) + 0.5) * 2 / fan_in**0.5
    shift = torch.randn(layer.out, generator=generator, device=device)
    out = layer.out_size
    neurons: dict[str, Any] = {
        "levels": _LEVELS,
        "threshold": _THRESHOLD,
        "leak": _LEAK,
        "mixing": _mixing(case.tgim, case.timesteps, device),
        "fan_out": torch.full((out, out), 9 * layer.out, device=device),
        "summed": case.tgim == "factored",
    }
    padding = layer.kernel // 2
    eager = _eager_neurons(case.tgim, case.timesteps, device)
    by_channel = (1, -1, 1, 1)

    def convolved(images: Tensor) -> Tensor:
        return functional.conv2d(images, half, stride=layer.stride, padding=padding)

    def by_cudnn(images: Tensor) -> object:
        currents = convolved(images).unflatten(0, (case.steps, case.batch))
        return fire(currents, scale=scale, shift=shift, **neurons)

    def by_eager(images: Tensor) -> Tensor:
        return eager(convolved(images) * scale.half().view(by_channel) + shift.half().view(by_channel))

    fused = partial(convolve_and_fire, stride=layer.stride, padding=padding, shift=shift, **neurons)
    return {
        FUSED_INT8: [partial(fused, each, int8, scale / 127) for each in spikes],
        FUSED_FP16: [partial(fused, each, half, scale) for each in spikes],
        CUDNN: [partial(by_cudnn, each) for each in as_half],
        EAGER: [partial(by_eager, each) for each in as_half],
    }


def _mixing(tgim: Tgim, timesteps: int, device: torch.device) -> Tensor:
    """Of an untrained network: ω = 1/T, or g = 1."""
    if tgim == "factored":
        return torch.ones(timesteps, device=device)
    return torch.full((timesteps, timesteps), 1 / timesteps, device=device)


def _eager_neurons(tgim: Tgim, timesteps: int, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The network's own layer, in half precision."""
    neurons = Neuron((timesteps,), _LEVELS, tgim, threshold=_THRESHOLD).to(device).half().eval()

    def run(currents: Tensor) -> Tensor:
        with torch.inference_mode():
            fired: Tensor = neurons(currents)
        return fired

    return run


def _sets(read_bytes: int) -> int:
    return min(_MOST_SETS, -(-CACHE_BYTES // read_bytes) + 1)


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
