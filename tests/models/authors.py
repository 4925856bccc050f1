"""Checkpoints as the LM-HT authors' code lays them out, and what it computes from them, written from the equations.

`checkpoint` draws random parameters by the authors' keys. `Plain` is their forward pass over plain tensors in float64,
one time-step after the other. Nothing of models/ is used here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

State = dict[str, Tensor]
Steps = list[Tensor]

STAGES = (64, 128, 256, 512)
DEPTHS = {"18": (2, 2, 2, 2), "34": (3, 4, 6, 3)}
# Output channels of the convolutions in the authors' layers 1 to 5.
VGG = {
    "vgg11": ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    "vgg13": ((64, 64), (128, 128), (256, 256), (512, 512, 512), (512,)),
    "vgg16": ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
    "vgg19": ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4),
    "cifarnet": ((128,), (256,), (512,), (1024,), (512,)),
    "hybrid vgg13": ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
}
VGG["hybrid vgg16"] = VGG["vgg16"]


@dataclass(frozen=True)
class Network:
    """Which network: its name as the authors have it, "hybrid " before those of hybrid training."""

    name: str
    classes: int = 10
    timesteps: int = 2
    levels: int = 2
    large: bool = False
    channels: int = 3

    @property
    def hybrid(self) -> bool:
        return self.name.startswith("hybrid")

    @property
    def arch(self) -> str:
        """What the command line calls it."""
        return self.name.removeprefix("hybrid ")

    @property
    def initial(self) -> float:
        """v_0 in units of θ."""
        return 0.5 if self.hybrid else 0.0

    @property
    def scale(self) -> float:
        """Of the first layer's current."""
        return float(self.levels) if self.name in ("hybrid resnet20", "hybrid vgg16") else 1.0


# --- Checkpoints -----------------------------------------------------------------------------------------------------


@dataclass
class Draw:
    """Random tensors, put into a state by their keys."""

    network: Network
    state: State = field(default_factory=dict)
    random: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(7))

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.random)

    def weight(self, prefix: str, *shape: int, bias: bool = False) -> None:
        self.state[f"{prefix}.weight"] = self.normal(*shape) * (2 / prod(shape[1:])) ** 0.5
        if bias:
            self.state[f"{prefix}.bias"] = 0.3 * self.normal(shape[0])

    def norm(self, prefix: str, width: int) -> None:
        self.state[f"{prefix}.weight"] = 1 + 0.1 * self.normal(width)
        self.state[f"{prefix}.bias"] = 0.6 + 0.3 * self.normal(width)
        self.state[f"{prefix}.running_mean"] = 0.1 * self.normal(width)
        self.state[f"{prefix}.running_var"] = 1 + 0.1 * self.normal(width).abs()
        self.state[f"{prefix}.num_batches_tracked"] = torch.tensor(5)

    def neuron(self, prefix: str, *, vector: bool = False, ran: bool = True) -> None:
        t, levels = self.network.timesteps, self.network.levels
        usual = 2 / levels if levels > 1 else 1.0
        theta = usual * float(0.7 + 0.6 * torch.rand((), generator=self.random)) if self.network.hybrid else usual
        self.state[f"{prefix}.v_threshold"] = torch.tensor([theta])
        if levels > 1:
            self.state[f"{prefix}.alpha"] = 0.5 * self.normal(1)
            self.state[f"{prefix}.mask"] = self.normal(t, t, 1, 1, 1, 1)
            # Either rank was written; both mix over time.
            ranks = (t, t, 1, 1) if self.network.arch.startswith("cifar") else (t, t, 1, 1, 1)
            self.state[f"{prefix}.mask_linear"] = self.normal(*ranks)
            if ran:
                used = "mask_linear" if vector else "mask"
                self.state[f"{prefix}.core"] = self.state[f"{prefix}.{used}"].clone()


def checkpoint(network: Network) -> State:
    """A state dict with random parameters."""
    draw = Draw(network)
    if network.arch == "resnet20":
        _draw_resnet20(draw)
    elif "resnet" in network.arch:
        _draw_resnet(draw)
    else:
        _draw_vgg(draw)
    return draw.state


def _draw_resnet(draw: Draw) -> None:
    network = draw.network
    draw.weight("conv1", 64, network.channels, *((7, 7) if network.large else (3, 3)))
    draw.norm("bn1", 64)
    draw.neuron("sn1", ran=not network.name.startswith("ms"))
    nineteen = network.name == "resnet19"
    widths, depths = (STAGES[1:], (3, 3, 2)) if nineteen else (STAGES, DEPTHS[network.name[-2:]])
    previous = 64
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True), 2 if nineteen else 1):
        for block in range(depth):
            prefix = f"layer{stage}.{block}"
            for index, inputs in ((1, previous), (2, width)):
                draw.weight(f"{prefix}.conv{index}.0", width, inputs, 3, 3)
                draw.norm(f"{prefix}.conv{index}.1", width)
                draw.neuron(f"{prefix}.sn{index}")
            if previous != width:
                draw.weight(f"{prefix}.downsample.0.0", width, previous, 1, 1)
                draw.norm(f"{prefix}.downsample.0.1", width)
            previous = width
    if nineteen:
        draw.weight("fc.0.0", 256, 512, bias=True)
        draw.neuron("fc.1", vector=True)
        draw.weight("fc.2.0", network.classes, 256, bias=True)
    else:
        draw.weight("fc.0", network.classes, 512, bias=True)


def _draw_resnet20(draw: Draw) -> None:
    draw.weight("conv1.0.0", 16, draw.network.channels, 3, 3)
    draw.norm("conv1.1.0", 16)
    draw.neuron("conv1.2")
    previous = 16
    for stage, width in enumerate((16, 32, 64), 2):
        for block in range(3):
            prefix = f"conv{stage}_x.{block}"
            for index, inputs in ((0, previous), (3, width)):
                draw.weight(f"{prefix}.residual_function.{index}.0", width, inputs, 3, 3)
                draw.norm(f"{prefix}.residual_function.{index + 1}.0", width)
            draw.neuron(f"{prefix}.residual_function.2")
            draw.neuron(f"{prefix}.relu")
            if previous != width:
                draw.weight(f"{prefix}.shortcut.0.0", width, previous, 1, 1)
                draw.norm(f"{prefix}.shortcut.1.0", width)
            previous = width
    draw.weight("fc.0", draw.network.classes, 64, bias=True)


def _draw_vgg(draw: Draw) -> None:
    network = draw.network
    previous = network.channels
    for layer, widths in enumerate(VGG[network.name], 1):
        for position, width in enumerate(widths):
            i = position * (4 if network.hybrid else 3)
            draw.weight(f"layer{layer}.{i}.0", width, previous, 3, 3, bias=True)
            draw.norm(f"layer{layer}.{i + 1}.0" if network.hybrid else f"layer{layer}.{i}.1", width)
            draw.neuron(f"layer{layer}.{i + (2 if network.hybrid else 1)}")
            previous = width
    if network.classes == 200 and not network.hybrid and network.arch != "cifarnet":
        draw.weight("classifier.0", network.classes, 512, bias=True)
        return
    rows = 7 if network.classes == 1000 else 2 if network.classes == 200 else 1
    sizes = (32768, 1024, 512) if network.arch == "cifarnet" else (512 * rows**2, 4096, 4096)
    o = 1 if network.hybrid and rows == 1 else 0
    for index, (inputs, outputs) in enumerate(zip(sizes, (*sizes[1:], network.classes), strict=True)):
        draw.weight(f"classifier.{o + 3 * index}.0", outputs, inputs, bias=True)
        if index < 2:
            draw.neuron(f"classifier.{o + 3 * index + 1}", vector=True)


# --- What the authors' code computes ---------------------------------------------------------------------------------


class Plain:
    """Runs a checkpoint. ``spikes``: per neuron's prefix, unit spikes at each step [T, B], in order of execution."""

    def __init__(self, network: Network, state: State) -> None:
        self.network = network
        self.state = {key: value.double() for key, value in state.items()}
        self.spikes: dict[str, Tensor] = {}

    def scores(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] → class scores [B, classes], the mean over the time-steps."""
        forward: Callable[[Tensor], Steps] = self._vgg
        if self.network.arch == "resnet20":
            forward = self._resnet20
        elif "resnet" in self.network.arch:
            forward = self._ms_resnet if self.network.name.startswith("ms") else self._resnet
        return torch.stack(forward(images.double())).mean(0)

    # Parts

    def norm(self, prefix: str, x: Tensor) -> Tensor:
        mean, variance = (self.state[f"{prefix}.running_{name}"].view(-1, 1, 1) for name in ("mean", "var"))
        scale, shift = (self.state[f"{prefix}.{name}"].view(-1, 1, 1) for name in ("weight", "bias"))
        return (x - mean) / (variance + 1e-5).sqrt() * scale + shift

    def conv(self, prefix: str, x: Tensor, stride: int = 1) -> Tensor:
        kernel, bias = self.state[f"{prefix}.weight"], self.state.get(f"{prefix}.bias")
        return functional.conv2d(x, kernel, bias, stride, kernel.shape[-1] // 2)

    def mapped(self, conv: str, norm: str, steps: Steps, stride: int = 1) -> Steps:
        return [self.norm(norm, self.conv(conv, x, stride)) for x in steps]

    def linear(self, prefix: str, steps: Steps) -> Steps:
        return [x @ self.state[f"{prefix}.weight"].T + self.state[f"{prefix}.bias"] for x in steps]

    def fire(self, prefix: str, currents: Steps) -> Steps:
        t, levels = self.network.timesteps, self.network.levels
        threshold = float(self.state[f"{prefix}.v_threshold"])
        leak = 1.0
        if levels > 1:
            leak = 1 / (1 + float(torch.exp(-self.state[f"{prefix}.alpha"]))) + 0.5
            mask = self.state[f"{prefix}.mask" if currents[0].ndim == 4 else f"{prefix}.mask_linear"].view(t, t)
            weights = (2 / (1 + torch.exp(-mask)) / t).tolist()
            currents = [torch.stack([w * x for w, x in zip(row, currents, strict=True)]).sum(0) for row in weights]
        membrane = torch.full_like(currents[0], self.network.initial * threshold)
        outputs, counts = [], []
        for current in currents:
            membrane = leak * membrane + current
            fired = sum((membrane >= level * threshold).double() for level in range(1, levels + 1))
            assert isinstance(fired, Tensor)
            outputs.append(threshold * fired)
            counts.append(fired.flatten(1).sum(1))
            membrane = membrane - outputs[-1]
        self.spikes[prefix] = torch.stack(counts)
        return outputs

    # Networks

    def _stem(self, images: Tensor) -> Tensor:
        return self.norm("bn1", self.conv("conv1", images, 2 if self.network.large else 1))

    def _pooled(self, steps: Steps) -> Steps:
        return [functional.max_pool2d(x, 3, 2, 1) for x in steps] if self.network.large else steps

    def _blocks(self) -> Sequence[tuple[str, int]]:
        """Prefix and stride of each block."""
        if self.network.name == "resnet19":
            return [
                (f"layer{s}.{b}", 2 if s > 2 and not b else 1) for s, n in ((2, 3), (3, 3), (4, 2)) for b in range(n)
            ]
        depths = DEPTHS[self.network.name[-2:]]
        return [(f"layer{s}.{b}", 2 if s > 1 and not b else 1) for s, n in enumerate(depths, 1) for b in range(n)]

    def _shortcut(self, prefix: str, steps: Steps, stride: int) -> Steps:
        if f"{prefix}.downsample.0.0.weight" not in self.state:
            return steps
        return self.mapped(f"{prefix}.downsample.0.0", f"{prefix}.downsample.0.1", steps, stride)

    def _resnet(self, images: Tensor) -> Steps:
        steps = self._pooled(self.fire("sn1", [self._stem(images)] * self.network.timesteps))
        for prefix, stride in self._blocks():
            branch = self.mapped(f"{prefix}.conv1.0", f"{prefix}.conv1.1", steps, stride)
            branch = self.mapped(f"{prefix}.conv2.0", f"{prefix}.conv2.1", self.fire(f"{prefix}.sn1", branch))
            shortcut = self._shortcut(prefix, steps, stride)
            steps = self.fire(f"{prefix}.sn2", [a + b for a, b in zip(branch, shortcut, strict=True)])
        steps = [x.mean((2, 3)) for x in steps]
        if self.network.name == "resnet19":
            return self.linear("fc.2.0", self.fire("fc.1", self.linear("fc.0.0", steps)))
        return self.linear("fc.0", steps)

    def _ms_resnet(self, images: Tensor) -> Steps:
        steps = self._pooled([self._stem(images)] * self.network.timesteps)
        for prefix, stride in self._blocks():
            branch = self.fire(f"{prefix}.sn1", steps)
            branch = self.mapped(f"{prefix}.conv1.0", f"{prefix}.conv1.1", branch, stride)
            branch = self.fire(f"{prefix}.sn2", branch)
            branch = self.mapped(f"{prefix}.conv2.0", f"{prefix}.conv2.1", branch)
            steps = [a + b for a, b in zip(branch, self._shortcut(prefix, steps, stride), strict=True)]
        return self.linear("fc.0", [x.mean((2, 3)) for x in steps])

    def _resnet20(self, images: Tensor) -> Steps:
        current = self.network.scale * self.norm("conv1.1.0", self.conv("conv1.0.0", images))
        steps = self.fire("conv1.2", [current] * self.network.timesteps)
        for stage in (2, 3, 4):
            for block in range(3):
                prefix, stride = f"conv{stage}_x.{block}", 2 if stage > 2 and not block else 1
                inner = f"{prefix}.residual_function"
                branch = self.fire(f"{inner}.2", self.mapped(f"{inner}.0.0", f"{inner}.1.0", steps, stride))
                branch = self.mapped(f"{inner}.3.0", f"{inner}.4.0", branch)
                if f"{prefix}.shortcut.0.0.weight" in self.state:
                    steps = self.mapped(f"{prefix}.shortcut.0.0", f"{prefix}.shortcut.1.0", steps, stride)
                steps = self.fire(f"{prefix}.relu", [a + b for a, b in zip(branch, steps, strict=True)])
        return self.linear("fc.0", [x.mean((2, 3)) for x in steps])

    def _vgg(self, images: Tensor) -> Steps:
        hybrid, name = self.network.hybrid, self.network.name
        steps = [images] * self.network.timesteps
        for layer, widths in enumerate(VGG[name], 1):
            for position in range(len(widths)):
                i = position * (4 if hybrid else 3)
                norm = f"layer{layer}.{i + 1}.0" if hybrid else f"layer{layer}.{i}.1"
                currents = self.mapped(f"layer{layer}.{i}.0", norm, steps)
                if layer == 1 and position == 0:
                    currents = [self.network.scale * x for x in currents]
                steps = self.fire(f"layer{layer}.{i + (2 if hybrid else 1)}", currents)
            if name == "vgg13" and layer == 5:
                steps = [x.mean((2, 3), keepdim=True) for x in steps]
            elif name != "cifarnet" or layer in (2, 3):
                steps = [functional.avg_pool2d(x, 2) for x in steps]
        steps = [x.flatten(1) for x in steps]
        if "classifier.0.weight" in self.state:
            return self.linear("classifier.0", steps)
        o = 1 if "classifier.1.0.weight" in self.state else 0
        for index in (o, o + 3):
            steps = self.fire(f"classifier.{index + 1}", self.linear(f"classifier.{index}.0", steps))
        return self.linear(f"classifier.{o + 6}.0", steps)
