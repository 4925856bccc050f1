"""The 8-bit ReLU network that the engine is measured against does what a rounded ReLU network does."""

from __future__ import annotations

import numpy as np
import pytest

from models.bench import relu
from models.export.graph import Window
from service.engines.cpu.runtimes import choose
from tests.models.examples import Sketch


def test_it_rounds_activations_to_255_steps_up_to_the_spikes_range() -> None:
    sketch = Sketch(timesteps=1, levels=2, factored=False)
    stem = sketch.neurons("stem", sketch.conv("stem/conv", "images", 1, 3), gains=True, threshold=0.5)
    last = sketch.neurons("last", sketch.conv("conv", stem, 3, 4, Window((1, 1))), threshold=0.5)
    graph = sketch.graph(4, last, 4 * 16)
    images = np.random.default_rng(0).random((2, 1, 4, 4), np.float32)
    outputs = choose("cpu").open(relu.lower(graph), batch=2, threads=1)(images)
    assert list(outputs) == ["logits"]
    logits = outputs["logits"]
    nodes = {node.name: node for node in graph.nodes}
    currents = _conv(images.astype(np.float64), nodes["stem/conv"], 1)
    for name in ("conv", None):
        active = np.clip(np.rint(np.maximum(currents / 0.5, 0) / (2 / 255)), 0, 255) * (2 / 255) * 0.5
        if name:
            currents = _conv(active, nodes[name], 0)
    head = nodes[graph.nodes[-1].name]
    expected = active.reshape(2, -1) @ head.weight.T + head.bias  # type: ignore[attr-defined]
    assert logits == pytest.approx(expected, abs=0.02 * np.abs(expected).max())


def _conv(x: np.ndarray, node: object, padding: int) -> np.ndarray:
    import torch

    weight, bias = node.weight, node.bias  # type: ignore[attr-defined]
    return torch.nn.functional.conv2d(
        torch.tensor(x), torch.tensor(weight), torch.tensor(bias), padding=padding
    ).numpy()


def test_it_has_one_time_step() -> None:
    sketch = Sketch(timesteps=2, levels=2, factored=False)
    graph = sketch.graph(4, sketch.stem(2), 2 * 16)
    with pytest.raises(ValueError, match="one time-step"):
        relu.lower(graph)
