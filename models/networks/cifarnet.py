"""CIFARNet (Wu et al., arXiv 1809.05793), as LM-HT has it."""

from __future__ import annotations

from typing import Unpack

from models.networks.base import Settings
from models.networks.vgg import VGG, vgg


def cifarnet(*, channels: int = 3, classes: int, **settings: Unpack[Settings]) -> VGG:
    """CIFARNet for 32×32 pictures: 5 convolutions, 128 to 1024 channels, two pools, 1024 and 512 linear neurons.

    Convolutions and hidden layers have biases.
    """
    return vgg(
        channels=channels,
        classes=classes,
        widths=((128, 256), (512,), (1024, 512)),
        hidden=(1024, 512),
        grid=(8, 8),
        bias=True,
        hidden_norms=False,
        **settings,
    )
