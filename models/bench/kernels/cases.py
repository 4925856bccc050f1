"""What is measured: the neuron alone, and every distinct layer of a ResNet-18 for 32×32 pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Tgim = Literal["full", "factored"]
_TGIMS: tuple[Tgim, ...] = get_args(Tgim)


@dataclass(frozen=True)
class NeuronCase:
    """Kernel 1 on float16 currents, channels-last, with norm and counts; beside a copy of as many bytes."""

    timesteps: int
    tgim: Tgim
    batch: int = 256
    channels: int = 64
    size: int = 32

    @property
    def name(self) -> str:
        """Unique among all cases."""
        return f"neuron-{self.tgim}-T{self.timesteps}"

    @property
    def moved_bytes(self) -> int:
        """The least that has to be moved: each current read and each spike written, once."""
        neurons = self.batch * self.channels * self.size**2
        return neurons * (2 * self.timesteps + self.timesteps if self.tgim == "full" else 2 + 1)


@dataclass(frozen=True)
class Layer:
    """A convolution with the neurons behind it; ``times`` it occurs in the network. Sizes are those of its input."""

    name: str
    channels: int
    out: int
    size: int
    stride: int
    times: int
    kernel: int = 3

    @property
    def out_size(self) -> int:
        """Height and width of the output."""
        return self.size // self.stride


@dataclass(frozen=True)
class LayerCase:
    """Kernel 2 on one layer."""

    layer: Layer
    timesteps: int
    tgim: Tgim
    batch: int

    @property
    def name(self) -> str:
        """Unique among all cases."""
        return f"{self.layer.name}-{self.tgim}-T{self.timesteps}-B{self.batch}"

    @property
    def steps(self) -> int:
        """Convolutions of it: T, or one."""
        return self.timesteps if self.tgim == "full" else 1

    @property
    def operations(self) -> int:
        """Multiplications and additions of the convolution."""
        layer = self.layer
        macs = layer.channels * layer.out * layer.kernel**2 * layer.out_size**2
        return 2 * macs * self.batch * self.steps


Case = NeuronCase | LayerCase

# The stem, whose input is no spikes, and the shortcuts, which feed no neurons of their own, are left out.
RESNET18 = (
    Layer("64-32", 64, 64, 32, 1, times=4),
    Layer("128-32-s2", 64, 128, 32, 2, times=1),
    Layer("128-16", 128, 128, 16, 1, times=3),
    Layer("256-16-s2", 128, 256, 16, 2, times=1),
    Layer("256-8", 256, 256, 8, 1, times=3),
    Layer("512-8-s2", 256, 512, 8, 2, times=1),
    Layer("512-4", 512, 512, 4, 1, times=3),
)


def all_cases(timesteps: Sequence[int], batches: Sequence[int]) -> Iterator[Case]:
    """In the order in which they are measured: the neuron, then layers by batch, as the network has them."""
    for tgim in _TGIMS:
        for steps in timesteps:
            yield NeuronCase(steps, tgim)
    for batch in batches:
        for tgim in _TGIMS:
            for steps in timesteps:
                for layer in RESNET18:
                    yield LayerCase(layer, steps, tgim, batch)
