"""VGG-13 (Simonyan and Zisserman, arXiv 1409.1556), as LM-HT trains it from an ANN."""

from __future__ import annotations

from typing import Unpack

from models.networks.vgg import VGG, Published, published


def vgg13_hybrid(**arguments: Unpack[Published]) -> VGG:
    """VGG-13: 10 convolutions, 64 to 512 channels, each of 5 stages followed by a pool."""
    return published(((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)), arguments)
