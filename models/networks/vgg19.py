"""VGG-19 (Simonyan and Zisserman, arXiv 1409.1556)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from models.networks.base import Settings
from models.networks.vgg import VGG, vgg


def vgg19(
    *,
    channels: int = 3,
    classes: int,
    hidden: Sequence[int] = (4096, 4096),
    grid: Sequence[int] = (1, 1),
    **settings: Unpack[Settings],
) -> VGG:
    """VGG-19: 16 convolutions, 64 to 512 channels, each of 5 stages followed by a pool.

    Convolutions and hidden layers have biases; `vgg` says what ``hidden`` and ``grid`` mean.
    """
    return vgg(
        channels=channels,
        classes=classes,
        widths=((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512, 512, 512, 512)),
        hidden=hidden,
        grid=grid,
        last_pool=True,
        bias=True,
        hidden_norms=False,
        **settings,
    )
