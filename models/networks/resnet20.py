"""ResNet-20 for CIFAR (He et al., arXiv 1512.03385)."""

from __future__ import annotations

from typing import Unpack

from models.networks.base import Settings
from models.networks.resnet import ResNet, resnet


def resnet20(*, channels: int = 3, classes: int, **settings: Unpack[Settings]) -> ResNet:
    """ResNet-20 for 32×32 pictures: 19 spiking layers, 16 to 64 channels."""
    return resnet(channels=channels, classes=classes, widths=(16, 32, 64), depths=(3, 3, 3), **settings)
