"""The authors' ResNets.

Trained directly, the convolution and norm of a branch sit in a container of two (``conv1.0``, ``conv1.1``), those of a
shortcut in ``downsample.0``; the stem's and the head's stand alone. In the hybrid one each module is in a container of
its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from models.importing.layout import Describe, Layout, Sides, State, shape_of

_LARGE_STEM, _LARGE, _SMALL = 7, 224, 32
_TINY_IMAGENET_CLASSES, _TINY_IMAGENET = 200, 64
_HEAD = "body.classifier.head.linear"
_STEM = {"body.stem.conv": "conv1", "body.stem.norm": "bn1"}
_BRANCH = {
    "unit1.conv": "conv1.0",
    "unit1.norm": "conv1.1",
    "unit1.neuron": "sn1",
    "conv2": "conv2.0",
    "norm2": "conv2.1",
    "neuron2": "sn2",
}
_MS_BRANCH = {
    "neuron1": "sn1",
    "conv1": "conv1.0",
    "norm1": "conv1.1",
    "neuron2": "sn2",
    "conv2": "conv2.0",
    "norm2": "conv2.1",
}
_SHORTCUT = {"shortcut.conv": "downsample.0.0", "shortcut.norm": "downsample.0.1"}
_HYBRID_BRANCH = {
    "unit1.conv": "residual_function.0.0",
    "unit1.norm": "residual_function.1.0",
    "unit1.neuron": "residual_function.2",
    "conv2": "residual_function.3.0",
    "norm2": "residual_function.4.0",
    "neuron2": "relu",
}
_HYBRID_SHORTCUT = {"shortcut.conv": "shortcut.0.0", "shortcut.norm": "shortcut.1.0"}


def basic(architecture: str, depths: Sequence[int]) -> Describe:
    """A ResNet of basic blocks, with the 3×3 or the 7×7 stem."""

    def describe(state: State) -> Layout:
        modules = _STEM | {"body.stem.neuron": "sn1", _HEAD: "fc.0"}
        modules |= _stages(depths, "layer{}", 1, _BRANCH, _SHORTCUT)
        return Layout(
            architecture, "conv1.weight", "fc.0.weight", modules, _sides(state), parameters=_large_stem(state)
        )

    return describe


def membrane_shortcut(architecture: str, depths: Sequence[int]) -> Describe:
    """An MS-ResNet: keys and shapes of the basic one, but the top neuron never runs."""

    def describe(state: State) -> Layout:
        modules = _STEM | {_HEAD: "fc.0"} | _stages(depths, "layer{}", 1, _MS_BRANCH, _SHORTCUT)
        idle, parameters = frozenset({"sn1"}), _large_stem(state)
        return Layout(
            architecture, "conv1.weight", "fc.0.weight", modules, _sides(state), idle=idle, parameters=parameters
        )

    return describe


def resnet19(state: State) -> Layout:
    """Three stages, named from 2; the first one has a mapped shortcut too. A hidden linear layer before the head."""
    modules = _STEM | {
        "body.stem.neuron": "sn1",
        "body.classifier.unit1.linear": "fc.0.0",
        "body.classifier.unit1.neuron": "fc.1",
        _HEAD: "fc.2.0",
    }
    modules |= _stages((3, 3, 2), "layer{}", 2, _BRANCH, _SHORTCUT, mapped_first=True)
    vectors = frozenset({"body.classifier.unit1.neuron"})
    return Layout("resnet19", "conv1.weight", "fc.2.0.weight", modules, _sides(state, "fc.2.0.weight"), vectors)


def resnet20(state: State) -> Layout:
    """The hybrid one."""
    modules = {
        "body.stem.conv": "conv1.0.0",
        "body.stem.norm": "conv1.1.0",
        "body.stem.neuron": "conv1.2",
        _HEAD: "fc.0",
    }
    modules |= _stages((3, 3, 3), "conv{}_x", 2, _HYBRID_BRANCH, _HYBRID_SHORTCUT)
    return Layout("resnet20", "conv1.0.0.weight", "fc.0.weight", modules, _sides(state), hybrid=True, scaled=True)


def _stages(
    depths: Sequence[int],
    stage_name: str,
    first: int,
    branch: Mapping[str, str],
    shortcut: Mapping[str, str],
    *,
    mapped_first: bool = False,
) -> dict[str, str]:
    """``stage<i>.block<j+1>`` here is ``layer<i + first − 1>.<j>`` there, or what ``stage_name`` says.

    All stages but the first begin with a mapped shortcut; that one too if ``mapped_first``.
    """
    return {
        f"body.stage{stage + 1}.block{block + 1}.{ours}": f"{stage_name.format(stage + first)}.{block}.{theirs}"
        for stage, depth in enumerate(depths)
        for block in range(depth)
        for ours, theirs in {**branch, **(shortcut if block == 0 and (stage or mapped_first) else {})}.items()
    }


def _large_stem(state: State) -> dict[str, bool]:
    return {"large_stem": shape_of(state, "conv1.weight")[-1:] == (_LARGE_STEM,)}


def _sides(state: State, head: str = "fc.0.weight") -> Sides:
    if _large_stem(state)["large_stem"]:
        return Sides(_LARGE)
    return Sides(_TINY_IMAGENET if shape_of(state, head)[:1] == (_TINY_IMAGENET_CLASSES,) else _SMALL)
