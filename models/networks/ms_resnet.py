"""Membrane-shortcut residual networks: the neuron stands before the convolution.

What blocks hand on is the sum of currents, real-valued: shortcut convolutions and the head read that, not spikes.

Source: Hu et al., Advancing Spiking Neural Networks toward Deep Residual Learning (arXiv 2112.08954).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack, cast

from torch import Tensor, nn

from models.networks.base import EachStep, MaxPool, Network, Norm, Scale, Settings, Spiking, spiking_of
from models.networks.resnet import Shortcut, add_stages, classifier


class Stem(nn.Module):
    """A convolution and norm of the image, and a max pool behind the 7×7 one of ``large``; no neuron."""

    def __init__(self, inputs: int, outputs: int, spiking: Spiking, *, large: bool) -> None:
        super().__init__()
        kernel, stride, padding = (7, 2, 3) if large else (3, 1, 1)
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.norm = Norm(outputs, spiking.budgets)
        self.scale = Scale(spiking.input_scale)
        self.pool = MaxPool() if large else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """[B, inputs, H, W] → currents [B, outputs, H, W], a quarter of either side when large."""
        return cast(Tensor, self.pool(self.scale(self.norm(self.conv(images)))))


class MSBlock(nn.Module):
    """Neuron, 3×3 convolution, neuron, 3×3 convolution; the shortcut passes the currents by both neurons.

    ``first``: its currents come from the stem, and have no time axis.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, spiking: Spiking, *, first: bool) -> None:
        super().__init__()
        self.neuron1 = spiking.neuron(constant_input=first)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = Norm(outputs, spiking.budgets)
        self.neuron2 = spiking.neuron()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = Norm(outputs, spiking.budgets)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else Shortcut(inputs, outputs, stride, spiking)
        timeless = first and spiking.tgim != "factored"
        self.each_step = EachStep(spiking.budgets) if timeless else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Currents [N, inputs, H, W] → currents [N', outputs, H/stride, W/stride]."""
        branch = self.norm1(self.conv1(self.neuron1(x)))
        branch = self.norm2(self.conv2(self.neuron2(branch)))
        return cast(Tensor, branch + self.each_step(self.shortcut(x)))


class MSResNet(Network):
    """See `ms_resnet`."""


def ms_resnet(
    *,
    channels: int,
    classes: int,
    widths: Sequence[int],
    depths: Sequence[int],
    large_stem: bool = False,
    **settings: Unpack[Settings],
) -> MSResNet:
    """Build a membrane-shortcut residual network.

    Args:
        channels: of the image.
        classes: number of classes.
        widths: output channels per stage; every stage but the first halves the map.
        depths: blocks per stage.
        large_stem: a 7×7 stem of stride 2 and a max pool on its currents, for large pictures, instead of a 3×3 one.
        settings: what every builder takes.
    """
    spiking = spiking_of(settings)
    network = MSResNet(spiking, settings["mean"], settings["std"])
    body = nn.Sequential()
    body.add_module("stem", Stem(channels, widths[0], spiking, large=large_stem))
    firsts = iter([True])

    def block(inputs: int, outputs: int, stride: int) -> MSBlock:
        return MSBlock(inputs, outputs, stride, spiking, first=next(firsts, False))

    add_stages(body, widths[0], widths, depths, block)
    body.add_module("classifier", classifier(widths[-1], (), classes, spiking))
    network.body = body
    return network
