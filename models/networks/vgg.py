"""VGG-like networks: stages of 3×3 convolutions with average pools between, then linear layers.

Source of the shape: Simonyan and Zisserman (arXiv 1409.1556), with average pools, which are linear in spikes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NotRequired, Unpack

from torch import nn

from models.networks.base import ConvUnit, Head, LinearUnit, Network, Settings, spiking_of


class Published(Settings):
    """Arguments of the published VGGs beside what every builder takes.

    channels: of the image, 3 if not given. classes: their number. hidden, grid: see `vgg`; 4096 twice, and one by one.
    """

    channels: NotRequired[int]
    classes: int
    hidden: NotRequired[Sequence[int]]
    grid: NotRequired[Sequence[int]]


class VGG(Network):
    """See `vgg`."""


def vgg(
    *,
    channels: int,
    classes: int,
    widths: Sequence[Sequence[int]],
    hidden: Sequence[int] = (),
    grid: Sequence[int] = (1, 1),
    bias: bool = False,
    last_pool: bool = False,
    hidden_norms: bool = True,
    **settings: Unpack[Settings],
) -> VGG:
    """Build a VGG-like network.

    Args:
        channels: of the image.
        classes: number of classes.
        widths: per stage, the output channels of its convolutions; a 2×2 average pool stands between two stages.
        hidden: widths of the linear spiking layers before the head.
        grid: rows and columns of the map before the linear part. (1, 1), the default, averages over the whole map
            unless there is a ``last_pool``; anything else must be the size that is left, and is flattened.
        bias: whether convolutions have one.
        last_pool: a pool behind the last stage too.
        hidden_norms: whether the hidden layers have norms; without, they have biases.
        settings: what every builder takes.
    """
    spiking = spiking_of(settings)
    network = VGG(spiking, settings["mean"], settings["std"])
    body = nn.Sequential()
    previous = channels
    for index, stage in enumerate(widths):
        units = nn.Sequential()
        if index:
            units.add_module("pool", nn.AvgPool2d(2))
        for position, width in enumerate(stage):
            unit = ConvUnit(previous, width, spiking, bias=bias, constant_input=index == position == 0)
            units.add_module(f"unit{position + 1}", unit)
            previous = width
        body.add_module(f"stage{index + 1}", units)
    rows, columns = grid
    classifier = nn.Sequential()
    if last_pool:
        classifier.add_module("pool", nn.AvgPool2d(2))
    elif rows == columns == 1:
        classifier.add_module("pool", nn.AdaptiveAvgPool2d(1))
    classifier.add_module("flatten", nn.Flatten())
    features = previous * rows * columns
    for index, width in enumerate(hidden):
        classifier.add_module(f"unit{index + 1}", LinearUnit(features, width, spiking, norm=hidden_norms))
        features = width
    classifier.add_module("head", Head(features, classes, spiking))
    body.add_module("classifier", classifier)
    network.body = body
    return network


def published(widths: Sequence[Sequence[int]], arguments: Published) -> VGG:
    """A VGG as published: 5 stages, each followed by a pool; convolutions and hidden layers have biases."""
    given: dict[str, Any] = {"channels": 3, "hidden": (4096, 4096), **arguments}
    return vgg(widths=widths, last_pool=True, bias=True, hidden_norms=False, **given)
