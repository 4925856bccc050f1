"""VGG-13 as LM-HT trains it directly: 10 convolutions, one of them in the last stage, and a mean over the map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from models.networks.base import Settings
from models.networks.vgg import VGG, vgg


def vgg13(
    *, channels: int = 3, classes: int, hidden: Sequence[int] = (4096, 4096), **settings: Unpack[Settings]
) -> VGG:
    """VGG-13: 10 convolutions, 64 to 512 channels in 5 stages, and a mean over the map.

    Convolutions and hidden layers have biases; `vgg` says what ``hidden`` means.
    """
    return vgg(
        channels=channels,
        classes=classes,
        widths=((64, 64), (128, 128), (256, 256), (512, 512, 512), (512,)),
        hidden=hidden,
        bias=True,
        hidden_norms=False,
        **settings,
    )
