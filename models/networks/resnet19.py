"""ResNet-19 (Zheng et al., arXiv 2011.05280): wider and shallower than ResNet-18, with a hidden linear layer."""

from __future__ import annotations

from typing import Unpack

from models.networks.base import Settings
from models.networks.resnet import ResNet, resnet


def resnet19(*, channels: int = 3, classes: int, **settings: Unpack[Settings]) -> ResNet:
    """ResNet-19 for small pictures: 18 spiking layers, 128 to 512 channels behind a stem of 64, one of them linear."""
    return resnet(
        channels=channels,
        classes=classes,
        widths=(128, 256, 512),
        depths=(3, 3, 2),
        stem_width=64,
        hidden=(256,),
        **settings,
    )
