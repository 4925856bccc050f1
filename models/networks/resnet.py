"""Spiking residual networks: basic blocks whose sum of branch and shortcut enters the neuron.

Source of the shape: He et al. (arXiv 1512.03385), with the 3×3 stem for small pictures or the 7×7 one for large ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Unpack, cast

from torch import Tensor, nn

from models.networks.base import (
    ConvUnit,
    Head,
    LinearUnit,
    Network,
    Norm,
    Settings,
    SpikeMaxPool,
    Spiking,
    TimeMean,
    spiking_of,
)


class Shortcut(nn.Module):
    """The 1×1 convolution and norm of a shortcut that changes its shape."""

    def __init__(self, inputs: int, outputs: int, stride: int, spiking: Spiking) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.norm = Norm(outputs, spiking.budgets)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → currents [N, outputs, H/stride, W/stride]."""
        return cast(Tensor, self.norm(self.conv(x)))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions; the second one's current and the shortcut's are added before the neuron."""

    def __init__(self, inputs: int, outputs: int, stride: int, spiking: Spiking) -> None:
        super().__init__()
        self.unit1 = ConvUnit(inputs, outputs, spiking, stride=stride)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = Norm(outputs, spiking.budgets)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else Shortcut(inputs, outputs, stride, spiking)
        self.neuron2 = spiking.neuron()

    def forward(self, x: Tensor) -> Tensor:
        """Spikes [N, inputs, H, W] → spikes [N, outputs, H/stride, W/stride]."""
        return cast(Tensor, self.neuron2(self.norm2(self.conv2(self.unit1(x))) + self.shortcut(x)))


class ResNet(Network):
    """See `resnet`."""


def resnet(
    *,
    channels: int,
    classes: int,
    widths: Sequence[int],
    depths: Sequence[int],
    stem_width: int | None = None,
    large_stem: bool = False,
    hidden: Sequence[int] = (),
    **settings: Unpack[Settings],
) -> ResNet:
    """Build a residual network.

    Args:
        channels: of the image.
        classes: number of classes.
        widths: output channels per stage; every stage but the first halves the map.
        depths: basic blocks per stage.
        stem_width: output channels of the stem; those of the first stage if not given.
        large_stem: a 7×7 stem of stride 2 and a max pool on its spikes, for large pictures, instead of a 3×3 one.
        hidden: widths of the linear spiking layers, with biases and without norms, before the head.
        settings: what every builder takes.
    """
    spiking = spiking_of(settings)
    network = ResNet(spiking, settings["mean"], settings["std"])
    previous = widths[0] if stem_width is None else stem_width
    body = nn.Sequential()
    if large_stem:
        body.add_module(
            "stem",
            ConvUnit(channels, previous, spiking, kernel=7, stride=2, padding=3, constant_input=True, each_step=True),
        )
        body.add_module("pool", SpikeMaxPool())
        if spiking.tgim == "factored":
            body.add_module("mean", TimeMean(spiking.budgets))
    else:
        body.add_module("stem", ConvUnit(channels, previous, spiking, constant_input=True))
    add_stages(
        body, previous, widths, depths, lambda inputs, outputs, stride: BasicBlock(inputs, outputs, stride, spiking)
    )
    body.add_module("classifier", classifier(widths[-1], hidden, classes, spiking))
    network.body = body
    return network


def add_stages(
    body: nn.Sequential,
    inputs: int,
    widths: Sequence[int],
    depths: Sequence[int],
    block: Callable[[int, int, int], nn.Module],
) -> None:
    """Add stages of blocks, ``block(inputs, outputs, stride)``; all but the first halve the map.

    Raises ValueError when ``widths`` and ``depths`` are not one value per stage.
    """
    if len(widths) != len(depths):
        raise ValueError("widths and depths need one value per stage")
    for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        stage = nn.Sequential()
        for position in range(depth):
            stage.add_module(f"block{position + 1}", block(inputs, width, 2 if index and not position else 1))
            inputs = width
        body.add_module(f"stage{index + 1}", stage)


def classifier(features: int, hidden: Sequence[int], classes: int, spiking: Spiking) -> nn.Sequential:
    """The mean over the map, linear spiking layers, and the head."""
    layers = nn.Sequential()
    layers.add_module("pool", nn.AdaptiveAvgPool2d(1))
    layers.add_module("flatten", nn.Flatten())
    for index, width in enumerate(hidden):
        layers.add_module(f"unit{index + 1}", LinearUnit(features, width, spiking, norm=False))
        features = width
    layers.add_module("head", Head(features, classes, spiking))
    return layers
