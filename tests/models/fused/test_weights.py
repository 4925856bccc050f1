from __future__ import annotations

import numpy as np
import pytest
import torch

from models.export.graph import Affine, Conv, Graph, Linear, MaxPool, Window
from models.export.quantisation import quantise
from models.fused import Weights
from models.fused.folding import fold
from tests.models.examples import Sketch


@pytest.fixture
def weight() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(6, 4, 3, 3))


def test_the_same_weights_are_stored_once_in_each_form(weight: np.ndarray, device: torch.device) -> None:
    weights = Weights(device)
    first = weights.whole(weight, 2)
    assert weights.whole(weight.copy(), 16).tensor is first.tensor  # the limit is 127 for both
    assert weights.nbytes == weight.size
    assert weights.whole(weight, 252).tensor is not first.tensor
    assert weights.whole(2 * weight, 2).tensor is not first.tensor
    assert weights.whole(weight.reshape(6, 4, 9, 1), 2).tensor is not first.tensor
    assert weights.half(weight).tensor is not first.tensor
    assert weights.floating(weight, torch.float16).tensor is not weights.half(weight).tensor
    assert weights.floating(weight, torch.float32).tensor is weights.floating(weight, torch.float32).tensor


def test_integers_are_those_of_the_export(weight: np.ndarray, device: torch.device) -> None:
    found = Weights(device).whole(weight, 200)
    integers, scale = quantise(weight, 200)
    assert found.tensor.cpu().numpy().tolist() == integers.tolist()
    assert found.scale.tolist() == scale.tolist()
    assert found.tensor.permute(0, 2, 3, 1).is_contiguous()


def test_half_precision_holds_shares_of_the_largest(weight: np.ndarray, device: torch.device) -> None:
    """A channel so small that float16 would have nothing of it, and one that is dead, lose no more than others."""
    weight[1] *= 1e-9
    weight[2] = 0
    found = Weights(device).half(weight)
    assert found.tensor.dtype == torch.float16
    back = found.tensor.cpu().double().numpy() * found.scale.reshape(-1, 1, 1, 1)
    peaks = np.abs(weight).max((1, 2, 3), keepdims=True)
    assert (np.abs(back - weight) <= peaks * 2**-11).all()
    assert not back[2].any()


def test_norms_are_folded_beside_the_weights() -> None:
    """Two in a row; one with a second reader of what it norms, and one behind a pool, stay."""
    sketch = Sketch()
    sketch.add(Conv("conv", ("images",), np.ones((2, 1, 3, 3)), np.array([1.0, 2.0]), Window((3, 3), padding=(1, 1))))
    sketch.add(Affine("norm", ("conv",), np.array([2.0, 3.0]), np.array([0.5, 0.0])))
    sketch.add(Affine("scale", ("norm",), np.full(2, 10.0), np.zeros(2)))
    sketch.add(MaxPool("pool", ("scale",), Window((2, 2), (2, 2))))
    sketch.add(Affine("late", ("pool",), np.full(2, 2.0), np.zeros(2)))
    graph, outward = fold(Graph(1, (1, 6, 6), tuple(sketch.nodes)))
    assert [(node.name, node.inputs) for node in graph.nodes] == [
        ("conv", ("images",)),
        ("pool", ("conv",)),
        ("late", ("pool",)),
    ]
    assert outward["conv"].scale.tolist() == [20.0, 30.0]
    assert outward["conv"].shift.tolist() == [(1 * 2 + 0.5) * 10, 2 * 3 * 10]
    both = [*sketch.nodes[:2], Linear("other", ("conv",), np.ones((1, 2)), np.zeros(1))]
    assert [node.name for node in fold(Graph(1, (1, 6, 6), tuple(both)))[0].nodes] == ["conv", "norm", "other"]
