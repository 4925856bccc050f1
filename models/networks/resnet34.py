"""ResNet-34 (He et al., arXiv 1512.03385)."""

from __future__ import annotations

from typing import Unpack

from models.networks.base import Settings
from models.networks.resnet import ResNet, resnet


def resnet34(*, channels: int = 3, classes: int, large_stem: bool = False, **settings: Unpack[Settings]) -> ResNet:
    """ResNet-34: 33 spiking layers, 64 to 512 channels; for 32×32 pictures, or with ``large_stem`` for large ones."""
    return resnet(
        channels=channels,
        classes=classes,
        widths=(64, 128, 256, 512),
        depths=(3, 4, 6, 3),
        large_stem=large_stem,
        **settings,
    )
