"""Spiking residual networks: basic blocks whose sum of branch and shortcut enters the neuron.

Source of the shape: He et al. (arXiv 1512.03385), with the 3×3 stem for small pictures, as LM-HT's ResNet-18 has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from models.networks.base import ConvUnit, Head, Network, Norm, Spiking
from models.neuron import Tgim


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
    budgets: Sequence[int],
    levels: int = 2,
    tgim: Tgim = "full",
    mean: Sequence[float],
    std: Sequence[float],
) -> ResNet:
    """Build a residual network with a 3×3 stem.

    Args:
        channels: of the image.
        classes: number of classes.
        widths: output channels per stage; every stage but the first halves the map.
        depths: basic blocks per stage.
        budgets: time-step budgets.
        levels: firing levels L.
        tgim: kind of T-GIM.
        mean: of the images, per channel.
        std: of the images, per channel.
    """
    if len(widths) != len(depths):
        raise ValueError("widths and depths need one value per stage")
    spiking = Spiking(tuple(budgets), levels, tgim)
    network = ResNet(spiking, mean, std)
    body = nn.Sequential()
    body.add_module("stem", ConvUnit(channels, widths[0], spiking, constant_input=True))
    previous = widths[0]
    for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        stage = nn.Sequential()
        for block in range(depth):
            stride = 2 if index and not block else 1
            stage.add_module(f"block{block + 1}", BasicBlock(previous, width, stride, spiking))
            previous = width
        body.add_module(f"stage{index + 1}", stage)
    classifier = nn.Sequential()
    classifier.add_module("pool", nn.AdaptiveAvgPool2d(1))
    classifier.add_module("flatten", nn.Flatten())
    classifier.add_module("head", Head(previous, classes, spiking))
    body.add_module("classifier", classifier)
    network.body = body
    return network


def resnet18(
    *,
    channels: int = 3,
    classes: int,
    budgets: Sequence[int],
    levels: int = 2,
    tgim: Tgim = "full",
    mean: Sequence[float],
    std: Sequence[float],
) -> ResNet:
    """ResNet-18 for 32×32 pictures, in its published shape: 17 spiking layers, 64 to 512 channels."""
    return resnet(
        channels=channels,
        classes=classes,
        widths=(64, 128, 256, 512),
        depths=(2, 2, 2, 2),
        budgets=budgets,
        levels=levels,
        tgim=tgim,
        mean=mean,
        std=std,
    )
