"""VGG-like networks: stages of 3×3 convolutions with average pools between, then linear layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from models.networks.base import ConvUnit, Head, LinearUnit, Network, Spiking
from models.neuron import Tgim


class VGG(Network):
    """See `vgg`."""


def vgg(
    *,
    channels: int,
    classes: int,
    widths: Sequence[Sequence[int]],
    hidden: Sequence[int] = (),
    grid: tuple[int, int] = (1, 1),
    budgets: Sequence[int],
    levels: int = 2,
    tgim: Tgim = "full",
    mean: Sequence[float],
    std: Sequence[float],
) -> VGG:
    """Build a VGG-like network.

    Args:
        channels: of the image.
        classes: number of classes.
        widths: per stage, the output channels of its convolutions; a 2×2 average pool stands between two stages.
        hidden: widths of the linear spiking layers before the head.
        grid: rows and columns of the map before the linear part. (1, 1), the default, averages over the whole map;
            anything else must be the size that the last stage leaves, and is flattened.
        budgets: time-step budgets.
        levels: firing levels L.
        tgim: kind of T-GIM.
        mean: of the images, per channel.
        std: of the images, per channel.
    """
    spiking = Spiking(tuple(budgets), levels, tgim)
    network = VGG(spiking, mean, std)
    body = nn.Sequential()
    previous = channels
    for index, stage in enumerate(widths):
        units = nn.Sequential()
        if index:
            units.add_module("pool", nn.AvgPool2d(2))
        for position, width in enumerate(stage):
            unit = ConvUnit(previous, width, spiking, constant_input=index == position == 0)
            units.add_module(f"unit{position + 1}", unit)
            previous = width
        body.add_module(f"stage{index + 1}", units)
    rows, columns = grid
    classifier = nn.Sequential()
    if rows == columns == 1:
        classifier.add_module("pool", nn.AdaptiveAvgPool2d(1))
    classifier.add_module("flatten", nn.Flatten())
    features = previous * rows * columns
    for index, width in enumerate(hidden):
        classifier.add_module(f"unit{index + 1}", LinearUnit(features, width, spiking))
        features = width
    classifier.add_module("head", Head(features, classes, spiking))
    body.add_module("classifier", classifier)
    network.body = body
    return network
