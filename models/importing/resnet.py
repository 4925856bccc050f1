"""The authors' ResNets.

The convolution and norm of a branch sit in a container of two (``conv1.0``, ``conv1.1``), those of a shortcut in
``downsample.0``; the stem's and the head's stand alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from models.importing.layout import Layout, State


def resnet18(state: State) -> Layout:
    """ResNet-18 with the 3×3 stem."""
    modules = {
        "body.stem.conv": "conv1",
        "body.stem.norm": "bn1",
        "body.stem.neuron": "sn1",
        "body.classifier.head.linear": "fc.0",
    }
    return Layout("resnet18", "conv1.weight", "fc.0.weight", modules | _stages((2, 2, 2, 2)))


def _stages(depths: Sequence[int]) -> dict[str, str]:
    """``stage<i>.block<j+1>`` here is ``layer<i>.<j>`` there; all stages but the first begin with a mapped shortcut."""
    return {
        f"body.stage{stage}.block{block + 1}.{ours}": f"layer{stage}.{block}.{theirs}"
        for stage, depth in enumerate(depths, 1)
        for block in range(depth)
        for ours, theirs in (_BRANCH | (_SHORTCUT if stage > 1 and block == 0 else {})).items()
    }


_BRANCH = {
    "unit1.conv": "conv1.0",
    "unit1.norm": "conv1.1",
    "unit1.neuron": "sn1",
    "conv2": "conv2.0",
    "norm2": "conv2.1",
    "neuron2": "sn2",
}
_SHORTCUT = {"shortcut.conv": "downsample.0.0", "shortcut.norm": "downsample.0.1"}
