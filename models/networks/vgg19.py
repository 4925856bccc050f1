"""VGG-19 (Simonyan and Zisserman, arXiv 1409.1556)."""

from __future__ import annotations

from typing import Unpack

from models.networks.vgg import VGG, Published, published


def vgg19(**arguments: Unpack[Published]) -> VGG:
    """VGG-19: 16 convolutions, 64 to 512 channels, each of 5 stages followed by a pool."""
    return published(
        ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512, 512, 512, 512)), arguments
    )
