"""ResNet-18 (He et al., arXiv 1512.03385)."""

from __future__ import annotations

from typing import Unpack

from models.networks.base import Settings
from models.networks.resnet import ResNet, resnet


def resnet18(*, channels: int = 3, classes: int, large_stem: bool = False, **settings: Unpack[Settings]) -> ResNet:
    """ResNet-18: 17 spiking layers, 64 to 512 channels; for 32×32 pictures, or with ``large_stem`` for large ones."""
    return resnet(
        channels=channels,
        classes=classes,
        widths=(64, 128, 256, 512),
        depths=(2, 2, 2, 2),
        large_stem=large_stem,
        **settings,
    )
