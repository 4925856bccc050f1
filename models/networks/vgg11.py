"""VGG-11 (Simonyan and Zisserman, arXiv 1409.1556)."""

from __future__ import annotations

from typing import Unpack

from models.networks.vgg import VGG, Published, published


def vgg11(**arguments: Unpack[Published]) -> VGG:
    """VGG-11: 8 convolutions, 64 to 512 channels, each of 5 stages followed by a pool."""
    return published(((64,), (128,), (256, 256), (512, 512), (512, 512)), arguments)
