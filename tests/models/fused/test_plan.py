"""What is fused, and what gives way to what."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from models.export.graph import Add, Graph, Linear, Neurons, Node, Window
from models.export.trace import trace
from models.fused import FusedNetwork, Precision, Weights
from models.fused.operation import Operation
from models.fused.plan import plan
from tests.models import examples
from tests.models.examples import ARCHITECTURES, Sketch
from tests.models.test_lowering import odd_graph, sums_up_to


def kinds(graph: Graph, precision: Precision = "int8") -> list[str]:
    return [type(operation).__name__ for operation in planned(graph, precision)]


def planned(graph: Graph, precision: Precision = "int8") -> tuple[Operation, ...]:
    return plan(graph, Weights(torch.device("cpu")), precision)


def traced(architecture: str, tgim: str, timesteps: int = 2) -> Graph:
    size = ARCHITECTURES[architecture][1]
    return trace(examples.network(architecture, 2, tgim), timesteps, (1, size, size))  # type: ignore[arg-type]


@pytest.mark.parametrize("tgim", ["full", "factored"])
def test_a_resnet_is_a_stem_and_one_fused_pass_a_layer(tgim: str) -> None:
    found = kinds(traced("resnet", tgim))
    block = ["ConvolveAndFire"] * 2
    narrowing = ["ConvolveAndFire", "Convolve", "ConvolveAndFire"]  # its shortcut's currents are the residual
    assert found == [
        *["Normalise", "Weigh", "Fire", *block, *block, *narrowing],
        *["SumPool", "Flatten", "ReadOut"],
    ]


def test_a_membrane_shortcut_is_added_by_the_convolution_that_it_passes() -> None:
    found = Counter(kinds(traced("ms_resnet", "full")))
    assert found["Sum"] == 0
    assert found["Convolve"] == 3  # the second convolution of each block
    assert found["ConvolveAndFire"] == 3  # the first
    assert found["Weigh"] == 2  # the stem, and the shortcut on currents
    assert found["Steps"] == 1  # the first block's shortcut has no time axis


@pytest.mark.parametrize("precision", ["int8", "float16"])
def test_norms_take_no_operation(precision: Precision) -> None:
    assert "Affine" not in kinds(traced("vgg", "full"), precision)


def test_in_float32_pytorch_convolves_and_a_kernel_fires() -> None:
    found = Counter(kinds(traced("resnet", "full"), "float32"))
    assert found["ConvolveAndFire"] == found["Convolve"] == 0
    assert found["Fire"] == 7
    assert found["Weigh"] == 8


@pytest.mark.parametrize(
    ("window", "groups", "fused"),
    [
        (Window((3, 3), padding=(1, 1)), 1, True),
        (Window((1, 1), (2, 2)), 1, True),
        (Window((3, 3), padding=(1, 1)), 2, False),
        (Window((3, 1), padding=(1, 0)), 1, False),
        (Window((3, 3), (1, 2), (1, 1)), 1, False),
        (Window((3, 3), padding=(1, 0)), 1, False),
        (Window((3, 3), padding=(2, 2), dilation=(2, 2)), 1, False),
    ],
)
def test_what_the_kernel_cannot_walk_is_left_to_pytorch(window: Window, groups: int, fused: bool) -> None:
    sketch = Sketch()
    stem = sketch.stem(4)
    last = sketch.neurons("last", sketch.conv("conv", stem, 4, 4, window, groups))
    rows, columns = window.outputs((6, 6))
    graph = sketch.graph(6, last, 4 * rows * columns)
    assert ("ConvolveAndFire" in kinds(graph)) == fused
    assert kinds(graph).count("Weigh") == (1 if fused else 2)


@pytest.mark.parametrize(
    ("maximum", "precision", "weight"),
    [
        (124, "int8", torch.int8),
        (252, "int8", torch.int8),
        (256, "int8", torch.float16),
        (256, "float16", torch.float16),
    ],
)
def test_sums_of_spikes_are_multiplied_by_what_holds_them_exactly(
    maximum: int, precision: Precision, weight: torch.dtype
) -> None:
    (fused,) = [
        o for o in planned(sums_up_to(maximum), precision) if type(o).__name__ in ("ConvolveAndFire", "Convolve")
    ]
    assert fused.weight.dtype == weight  # type: ignore[attr-defined]


def test_sums_beyond_half_precision_are_convolved_in_float32() -> None:
    sketch = Sketch(timesteps=8, levels=300, factored=True)
    stem = sketch.stem(4)
    graph = sketch.graph(6, sketch.neurons("last", sketch.conv("conv", stem, 4, 4)), 4 * 36)
    for precision in ("int8", "float16"):
        (_, products) = [o for o in planned(graph, precision) if type(o).__name__ == "Weigh"]
        assert products.weight.dtype == torch.float32  # type: ignore[attr-defined]


def test_of_two_convolutions_in_a_sum_the_larger_one_is_fused() -> None:
    sketch = Sketch()
    stem = sketch.stem(4)
    both = sketch.conv("small", stem, 4, 4, Window((1, 1))), sketch.conv("large", stem, 4, 4)
    last = sketch.neurons("last", sketch.add(Add("sum", both)))
    operations = {type(o).__name__: o for o in planned(sketch.graph(6, last, 4 * 36))}
    assert operations["Convolve"].name == "small"
    assert operations["ConvolveAndFire"].reads == (stem, "small")


def test_a_current_with_a_second_reader_is_made_once() -> None:
    found = planned(odd_graph("current with a second reader"))
    assert [o.name for o in found if type(o).__name__ == "Convolve"] == ["conv"]
    assert "ConvolveAndFire" not in [type(o).__name__ for o in found]


def test_signals_are_dropped_with_their_last_reader(monkeypatch: pytest.MonkeyPatch, device: torch.device) -> None:
    most = 0
    graph = traced("vgg", "full")
    network = FusedNetwork(graph, Weights(device), "float32")
    for operation in network._operations:
        kind, original = type(operation), type(operation).run

        def counted(self: Operation, state: object, original: object = original) -> torch.Tensor:
            nonlocal most
            most = max(most, len(state.values))  # type: ignore[attr-defined]
            return original(self, state)  # type: ignore[operator,no-any-return]

        if original.__name__ != "counted":
            monkeypatch.setattr(kind, "run", counted)
    network(torch.zeros(1, *graph.input_shape, device=device))
    assert most == 1  # what an operation reads, and nothing else


def test_a_node_that_nothing_carries_out_is_refused() -> None:
    class Odd(Node):
        """Of no kind that there is."""

    graph = Graph(1, (3,), (Odd("odd", ("images",)), Linear("head", ("odd",), np.ones((2, 3)), np.zeros(2), head=True)))
    with pytest.raises(ValueError, match="odd: Odd cannot be run"):
        planned(graph)


def test_spikes_without_an_account_are_refused() -> None:
    neurons = Neurons("first", ("images",), None, None, 0.0, 1.0, 2, factored=False)
    conv = examples.Sketch()
    conv.nodes.append(neurons)
    current = conv.conv("current", "first", 1, 1, Window((1, 1)))
    total = conv.add(Add("sum", ("first", current)))
    conv.conv("reads", total, 1, 1, Window((1, 1)))
    with pytest.raises(ValueError, match="which is real-valued"):
        planned(Graph(2, (1, 4, 4), tuple(conv.nodes)))
