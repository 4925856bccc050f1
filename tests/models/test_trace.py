"""From PyTorch to a graph: nothing lost, and what has no node is refused rather than dropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.export.graph import Add, Affine, Conv, Flatten, Graph, Linear, Neurons, Normalise, fold_norms
from models.export.trace import trace
from models.networks import vgg
from models.neuron import Neuron, Tgim
from tests.models import examples, reference


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("architecture", examples.ARCHITECTURES)
@pytest.mark.parametrize(("levels", "tgim"), [(1, "none"), (2, "full"), (3, "factored"), (4, "none")])
def test_a_traced_graph_does_what_the_network_does(architecture: str, levels: int, tgim: Tgim, fold: bool) -> None:
    network = examples.network(architecture, levels, tgim)
    size = examples.ARCHITECTURES[architecture][1]
    images = examples.images(4, size)
    for timesteps in (1, 3):
        graph = trace(network, timesteps, (1, size, size))
        if fold:
            graph = fold_norms(graph)
            assert not [node for node in graph.nodes if isinstance(node, Affine)]
        expected, found = reference.run(network, timesteps, images), reference.evaluate(graph, images)
        np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-9, atol=1e-9)
        assert [layer.name for layer in graph.layers] == list(expected.spikes)
        totals = expected.totals()
        assert all(total.any() for total in totals.values())
        for name, total in found.totals().items():
            assert torch.equal(total, totals[name]), name


def test_tracing_leaves_the_network_as_it_was() -> None:
    network = examples.network("vgg", 2, "full")
    network.select(4)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trace(network, 1, (1, 9, 9))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert {value.dtype for name, value in network.state_dict().items() if "weight" in name} == {torch.float32}
    assert network(examples.images(2, 9)).shape == (2, 3)
    assert {m.timesteps for m in network.modules() if isinstance(m, Neuron)} == {4}


def test_shapes_and_time_axes_are_known_of_every_signal() -> None:
    graph = trace(examples.network("vgg-pooled", 2, "full"), 3, (1, 7, 7))
    signals = graph.signals()
    described = [(type(node).__name__, signals[node.name].shape, signals[node.name].timed) for node in graph.nodes]
    assert described == [
        ("Normalise", (1, 7, 7), False),
        ("Conv", (4, 7, 7), False),
        ("Affine", (4, 7, 7), False),
        ("Neurons", (4, 7, 7), True),
        ("Conv", (4, 7, 7), True),
        ("Affine", (4, 7, 7), True),
        ("Neurons", (4, 7, 7), True),
        ("AvgPool", (4, 3, 3), True),
        ("Conv", (6, 3, 3), True),
        ("Affine", (6, 3, 3), True),
        ("Neurons", (6, 3, 3), True),
        ("AvgPool", (6, 1, 1), True),
        ("Flatten", (6,), True),
        ("Linear", (3,), False),
    ]
    pooled = next(signals[node.name].spikes for node in graph.nodes if type(node).__name__ == "AvgPool")
    assert pooled is not None
    threshold = graph.layers[1].threshold
    assert (pooled.source, pooled.unit, pooled.maximum, pooled.window) == (graph.layers[1].name, threshold / 4, 8, 4)


def test_factored_signals_have_no_time_axis_and_count_to_steps_times_levels() -> None:
    graph = trace(examples.network("vgg-pooled", 2, "factored"), 3, (1, 7, 7))
    signals = graph.signals()
    assert not any(signal.timed for signal in signals.values())
    spikes = signals[graph.layers[0].name].spikes
    assert spikes is not None
    assert (spikes.unit, spikes.maximum) == (graph.layers[0].threshold / 3, 6)


# --- Folding ---------------------------------------------------------------------------------------------------------


def folding_graph(*, shared: bool) -> Graph:
    """Two affine nodes in a row behind a matrix; ``shared``: another node reads what lies between them."""
    sketch = examples.Sketch(timesteps=1)
    flat = sketch.add(Flatten("pixels", ("images",)))
    current = sketch.linear("matrix", flat, 16, 5)
    first = sketch.add(Affine("first", (current,), np.arange(1.0, 6), np.full(5, 0.25)))
    second = sketch.add(Affine("second", (first,), np.full(5, 0.5), np.arange(5.0)))
    if shared:
        second = sketch.add(Add("sum", (second, first)))
    layer = sketch.neurons("neurons", second, gains=True)
    sketch.linear("head", layer, 5, 3, head=True)
    return Graph(1, (1, 4, 4), tuple(sketch.nodes))


@pytest.mark.parametrize(("shared", "left"), [(False, []), (True, ["second"])])
def test_norms_fold_into_what_only_they_read(shared: bool, left: list[str]) -> None:
    graph = folding_graph(shared=shared)
    folded = fold_norms(graph)
    assert [node.name for node in folded.nodes if isinstance(node, Affine)] == left
    images = examples.images(6, 4)
    expected, found = reference.evaluate(graph, images), reference.evaluate(folded, images)
    np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-12)
    assert expected.totals()["neurons"].any()


# --- Refusals --------------------------------------------------------------------------------------------------------


class PlusOne(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, x * 2)


class Weighted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(self.left(x), self.right(x), alpha=2)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        once: Tensor = self.conv(x)
        again: Tensor = self.conv(once)
        return again


UNFIT: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "activation": (nn.ReLU, r"cannot export the module .* \(ReLU\)"),
    "max pool": (lambda: nn.MaxPool2d(2), r"\(MaxPool2d\)"),
    "a constant added": (PlusOne, "cannot export the operation call_function"),
    "a product": (Doubled, "cannot export the operation call_function"),
    "a weighted sum": (Weighted, "cannot export the operation call_function"),
    "a layer used twice": (Twice, "runs twice"),
    "pool that rounds up": (lambda: nn.AvgPool2d(2, ceil_mode=True), "average pools"),
    "pool with a divisor": (lambda: nn.AvgPool2d(2, divisor_override=3), "average pools"),
    "pool that leaves padding out": (lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False), "average pools"),
    "uneven adaptive pool": (lambda: nn.AdaptiveAvgPool2d(3), r"cannot pool \(8, 8\) evenly to \(3, 3\)"),
    "padding by name": (lambda: nn.Conv2d(4, 4, 3, padding="same"), "zero padding"),
    "reflected padding": (lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), "zero padding"),
    "wrong channels": (lambda: nn.Conv2d(5, 4, 3), "4 channels for a kernel of 5"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_what_has_no_node_is_refused(case: str) -> None:
    make, says = UNFIT[case]
    network = vgg(channels=1, classes=3, widths=[[4]], budgets=(2,), mean=(0.0,), std=(1.0,))
    body: Any = network.body
    body[0].append(make())
    with pytest.raises(ValueError, match=says):
        trace(network, 2, (1, 8, 8))


def test_a_read_out_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(54,\) for a matrix"):
        trace(examples.network("vgg", 2, "full"), 1, (1, 7, 7))


def test_convolutions_keep_stride_padding_dilation_groups_and_bias() -> None:
    network = vgg(channels=1, classes=3, widths=[[4]], budgets=(2,), mean=(0.25,), std=(0.5,))
    body: Any = network.body
    body[0].append(nn.Conv2d(4, 6, (3, 1), stride=(2, 1), padding=(1, 0), dilation=(2, 1), groups=2))
    body[1][-1].linear = nn.Linear(6, 3)
    graph = trace(network, 2, (1, 8, 8))
    conv = [node for node in graph.nodes if isinstance(node, Conv)][1]
    assert (conv.window.kernel, conv.window.stride) == ((3, 1), (2, 1))
    assert (conv.window.padding, conv.window.dilation, conv.groups) == ((1, 0), (2, 1), 2)
    assert np.array_equal(conv.bias, body[0][1].bias.detach().double().numpy())
    first, last = graph.nodes[0], graph.nodes[-1]
    assert isinstance(first, Normalise)
    assert (first.mean.tolist(), first.std.tolist()) == ([0.25], [0.5])
    assert isinstance(last, Linear)
    assert last.head
    assert [type(node) for node in graph.nodes].count(Neurons) == 1
