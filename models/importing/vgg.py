"""The authors' VGGs and CIFARNet.

Trained directly, a convolution and its norm sit in a container of two (``layer1.0.0``, ``layer1.0.1``), the neuron and
a dropout follow, then the next convolution: ``layer1.3``. In the hybrid ones each module is in a container of its own:
``layer1.0.0``, ``layer1.1.0``, neuron ``layer1.2``, and ``layer1.4`` comes next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from models.importing.layout import Describe, Layout, Sides, State, shape_of

_STEM = "layer1.0.0.weight"
_ONE_MATRIX = "classifier.0.weight"
# In the hybrid layout the first norm; in the direct one it is layer1.0.1.
_HYBRID_NORM = "layer1.1.0.weight"
# Rows of the map that the first matrix reads, by its inputs: those of pictures of 32, 64 and 224 pixels.
_ROWS = {512: 1, 2048: 2, 25088: 7}
_POOLED = 32
_TINY_IMAGENET_CLASSES, _TINY_IMAGENET, _SMALL = 200, 64, 32


def pooled(architecture: str, counts: Sequence[int]) -> Describe:
    """A direct VGG of so many convolutions in each of its five layers, all followed by a pool."""
    return lambda state: _with_rows(_direct(state, architecture, counts, counts), state)


def vgg13(state: State) -> Layout:
    """The direct one averages over the map in the end; the hybrid one is another network."""
    if _HYBRID_NORM in state:
        return _hybrid(state, "vgg13_hybrid", (2, 2, 2, 2, 2), scaled=False)
    counts = (2, 2, 2, 3, 1)
    layout = _direct(state, "vgg13", counts, counts)
    classes = shape_of(state, layout.head)[:1]
    return replace(layout, sides=Sides(_TINY_IMAGENET if classes == (_TINY_IMAGENET_CLASSES,) else _SMALL))


def vgg16(state: State) -> Layout:
    """The direct and the hybrid one are the same network."""
    counts = (2, 2, 3, 3, 3)
    if _HYBRID_NORM in state:
        return _hybrid(state, "vgg16", counts, scaled=True)
    return _with_rows(_direct(state, "vgg16", counts, counts), state)


def cifarnet(state: State) -> Layout:
    """One convolution in each layer; pools stand behind the second and the third."""
    layout = _direct(state, "cifarnet", (1, 1, 1, 1, 1), (2, 1, 2))
    return replace(layout, sides=Sides(_SMALL, divisor=4, rows=8), parameters={})


def _direct(state: State, architecture: str, counts: Sequence[int], stages: Sequence[int]) -> Layout:
    """``counts``: convolutions in each of the authors' layers; ``stages``: in each of ours, between two pools."""
    if _ONE_MATRIX in state:
        return _layout(architecture, counts, stages, 3, 0, single=True)
    return _layout(architecture, counts, stages, 3, 0)


def _hybrid(state: State, architecture: str, counts: Sequence[int], *, scaled: bool) -> Layout:
    # A dropout stands before the first matrix, but not at 200 and 1000 classes.
    first = 0 if "classifier.0.0.weight" in state else 1
    layout = _layout(architecture, counts, counts, 4, first)
    return replace(_with_rows(layout, state), hybrid=True, scaled=scaled)


def _with_rows(layout: Layout, state: State) -> Layout:
    """The layout with the size of the map that its first matrix reads."""
    first = layout.modules.get("body.classifier.unit1.linear", layout.modules["body.classifier.head.linear"])
    inputs = shape_of(state, f"{first}.weight")[1:2]
    rows = _ROWS.get(inputs[0], 1) if inputs else 1
    sides = Sides(rows * _POOLED, divisor=_POOLED, rows=rows)
    return replace(layout, sides=sides, parameters={**layout.parameters, "grid": [rows, rows]})


def _layout(
    architecture: str, counts: Sequence[int], stages: Sequence[int], step: int, first: int, *, single: bool = False
) -> Layout:
    """A layout whose next convolution comes ``step`` modules after one, and whose matrices begin at ``first``.

    ``single``: the classifier is one matrix alone.
    """
    modules: dict[str, str] = {}
    for ours, (layer, index) in zip(_units(stages), _positions(counts, step), strict=True):
        modules[f"body.{ours}.conv"] = f"{layer}.{index}.0"
        modules[f"body.{ours}.norm"] = f"{layer}.{index}.1" if step == 3 else f"{layer}.{index + 1}.0"
        modules[f"body.{ours}.neuron"] = f"{layer}.{index + step - 2}"
    head, vectors = "classifier.0", frozenset[str]()
    if not single:
        head = f"classifier.{first + 6}.0"
        for unit in (1, 2):
            position = first + 3 * (unit - 1)
            modules[f"body.classifier.unit{unit}.linear"] = f"classifier.{position}.0"
            modules[f"body.classifier.unit{unit}.neuron"] = f"classifier.{position + 1}"
        vectors = frozenset(f"body.classifier.unit{unit}.neuron" for unit in (1, 2))
    modules["body.classifier.head.linear"] = head
    parameters: dict[str, list[int]] = {"hidden": []} if single else {}
    return Layout(architecture, _STEM, f"{head}.weight", modules, Sides(_SMALL), vectors, parameters=parameters)


def _units(stages: Sequence[int]) -> Iterator[str]:
    return (f"stage{stage}.unit{unit + 1}" for stage, count in enumerate(stages, 1) for unit in range(count))


def _positions(counts: Sequence[int], step: int) -> Iterator[tuple[str, int]]:
    return ((f"layer{layer}", step * index) for layer, count in enumerate(counts, 1) for index in range(count))
