"""MS-ResNet-34 (Hu et al., arXiv 2112.08954)."""

from __future__ import annotations

from typing import Unpack

from models.networks.base import Settings
from models.networks.ms_resnet import MSResNet, ms_resnet


def ms_resnet34(*, channels: int = 3, classes: int, large_stem: bool = False, **settings: Unpack[Settings]) -> MSResNet:
    """MS-ResNet-34: 32 spiking layers, 64 to 512 channels; for 32×32 pictures, or large ones with ``large_stem``."""
    return ms_resnet(
        channels=channels,
        classes=classes,
        widths=(64, 128, 256, 512),
        depths=(3, 4, 6, 3),
        large_stem=large_stem,
        **settings,
    )
