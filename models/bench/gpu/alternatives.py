"""Each case as work for the GPU: the fused network, and what else could run there.

All of them are given the same images in float32, and but for the fused network they compute in float16, channels-last:
what a GPU is quickest with and needs no care.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import torch
from torch import Tensor

from models.bench import random_network
from models.bench.gpu.cases import Case, Subject
from models.bench.gpu.compilable import compilable, in_half
from models.bench.gpu.relu import ReluNetwork
from models.bench.gpu.work import Called, Device, Work
from models.bench.random_network import Tgim
from models.export.trace import trace
from models.fused import FusedNetwork, Precision, Weights
from models.networks import Network

FUSED_INT8, FUSED_FLOAT16 = "fused, int8", "fused, float16"
OWN_AT_ONE = "fused, int8, T = 1"
EAGER, COMPILED = "PyTorch, eager", "torch.compile"
RELU, RELU_PASSES = "ReLU network", "ReLU network, T passes"
NAMES = (FUSED_INT8, FUSED_FLOAT16, OWN_AT_ONE, EAGER, COMPILED, RELU, RELU_PASSES)


class Networks:
    """Networks with random weights, each made once, with all budgets that will be asked for."""

    def __init__(self, timesteps: Sequence[int], seed: int = 0) -> None:
        self._budgets = sorted({1, *timesteps})  # T = 1 is what ReLU networks are made from
        self._seed = seed
        self.get = cache(self._make)

    def _make(self, subject: Subject, tgim: Tgim) -> Network:
        parameters, size = subject.parameters, subject.size
        return random_network.network(subject.architecture, tgim, self._budgets, parameters, self._seed, size)


def makers(case: Case, networks: Networks, device: Device) -> Mapping[str, Callable[[], Work]]:
    """The case's alternatives by name, to be made one by one: each may find no room."""
    network, shape, batch = networks.get(case.subject, case.tgim), case.subject.shape, case.batch
    weights = Weights(device.torch)

    def images() -> Tensor:
        return torch.rand((batch, *shape), generator=torch.Generator().manual_seed(0)).to(device.torch)

    def fused(precision: Precision, timesteps: int) -> Callable[[], Work]:
        return lambda: device.fused(FusedNetwork(trace(network, timesteps, shape), weights, precision), images())

    def relu(passes: int) -> Callable[[], Work]:
        def make() -> Work:
            plain = ReluNetwork(trace(network, 1, shape), torch.float16, device.torch)

            def run(x: Tensor) -> Sequence[Tensor]:
                with torch.inference_mode():
                    return [plain(x) for _ in range(passes)][-1:]

            return device.captured(run, images())

        return make

    def eager() -> Work:
        own = in_half(copy.deepcopy(network), device.torch)
        return Called(_inferring(_half(own, case.timesteps)), images())

    def compiled() -> Work:
        own = in_half(compilable(network), device.torch)
        call = device.compiled(_half(own, case.timesteps), autotune=case.autotuned)
        return Called(_inferring(call), images())

    found = {FUSED_INT8: fused("int8", case.timesteps), FUSED_FLOAT16: fused("float16", case.timesteps)}
    if case.tgim == "factored" and case.timesteps > 1:
        found[OWN_AT_ONE] = fused("int8", 1)
    found |= {EAGER: eager, COMPILED: compiled, RELU: relu(1)}
    if case.passes > 1:
        found[RELU_PASSES] = relu(case.passes)
    return found


def _half(network: Network, timesteps: int) -> Callable[[Tensor], Tensor]:
    def call(images: Tensor) -> Tensor:
        logits: Tensor = network(images.half().contiguous(memory_format=torch.channels_last), timesteps)
        return logits

    return call


def _inferring(call: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Sequence[Tensor]]:
    def run(images: Tensor) -> Sequence[Tensor]:
        with torch.inference_mode():
            return (call(images),)

    return run
