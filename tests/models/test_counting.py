"""Spikes and synaptic operations against a brute-force count with all-ones weights, exactly."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.export import counting
from models.export.graph import Add, Affine, AvgPool, Conv, Flatten, Graph, Linear, Neurons, Node, Window
from models.export.lowering import lower
from models.export.trace import trace
from models.networks.base import Head
from models.neuron import Neuron
from models.tools import Provider
from tests.models import examples, reference
from tests.models.examples import Sketch


def layer(name: str, source: str, levels: int = 2) -> Neurons:
    return Neurons(name, (source,), None, None, 0.0, 1.0, levels, factored=False)


def conv(name: str, source: str, inputs: int, outputs: int, window: Window, groups: int = 1) -> Conv:
    return Conv(
        name, (source,), np.ones((outputs, inputs // groups, *window.kernel)), np.zeros(outputs), window, groups
    )


def predicted(graph: Graph, layer: Neurons, units: Tensor) -> Tensor:
    """What the separable description makes of unit spikes [B, C, H, W] or [B, N]."""
    total = torch.zeros(len(units), dtype=torch.float64)
    maps = units if units.ndim == 4 else units.reshape(len(units), -1, 1, 1)
    for edge in counting.edges(graph, layer):
        rows, columns = torch.from_numpy(edge.rows), torch.from_numpy(edge.columns)
        total += edge.fan * torch.einsum("bcij,i,j->b", maps, rows, columns)
    return total


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def windows(draw: st.DrawFn) -> Window:
    return Window(draw(pairs(1, 5)), draw(pairs(1, 3)), draw(pairs(0, 2)), draw(pairs(1, 2)))


@settings(max_examples=120, deadline=None)
@given(pairs(1, 11), windows(), st.none() | pairs(1, 4), st.sampled_from([1, 2, 4]), st.integers(0, 2**16))
def test_any_convolution_behind_any_pool_reaches_as_many_synapses_as_all_ones_say(
    size: tuple[int, int], window: Window, pool: tuple[int, int] | None, groups: int, seed: int
) -> None:
    nodes: list[Node] = [layer("layer", "images")]
    source, entering = "layer", size
    if pool is not None:
        padding = (pool[0] // 2, pool[1] // 2) if seed % 2 else (0, 0)
        pooling = AvgPool("pool", ("layer",), Window(pool, (2, 1) if seed % 3 else pool, padding))
        nodes.append(pooling)
        source, entering = "pool", pooling.window.outputs(size)
        assume(min(entering) > 0)
    assume(min(window.outputs(entering)) > 0)
    nodes.append(conv("conv", source, 4, 8, window, groups))
    graph = Graph(1, (4, *size), tuple(nodes))
    units = torch.from_numpy(np.random.default_rng(seed).integers(0, 9, (2, 4, *size))).double()
    _, expected = reference.counts(graph, {"layer": [units]})
    assert predicted(graph, graph.layers[0], units).tolist() == expected[:, 0].tolist()


def test_a_stride_that_drops_a_border_leaves_it_unread() -> None:
    """Kernel 3, stride 2, on 8 rows: outputs start at rows 0, 2 and 4, row 7 is never read."""
    graph = Graph(1, (1, 8, 3), (layer("layer", "images"), conv("conv", "layer", 1, 1, Window((3, 3), (2, 1)))))
    (edge,) = counting.edges(graph, graph.layers[0])
    assert edge.rows.tolist() == [1, 1, 2, 1, 2, 1, 1, 0]
    assert edge.columns.tolist() == [1, 1, 1]
    assert (edge.fan, edge.fan_out, edge.window, edge.kind) == (1, 9, 1, "conv")


def test_every_reader_of_a_layer_is_an_edge_of_its_own() -> None:
    """A block's start: two convolutions, and a shortcut whose spikes are pooled on the way into the sum."""
    first = layer("first", "images")
    nodes = (
        first,
        conv("branch", "first", 2, 4, Window((3, 3), (2, 2), (1, 1))),
        conv("side", "first", 2, 4, Window((1, 1), (2, 2))),
        Add("currents", ("branch", "side")),
        AvgPool("shortcut", ("first",), Window((2, 2), (2, 2))),
        conv("widen", "first", 2, 2, Window((2, 2), (2, 2))),
        Add("sum", ("shortcut", "widen")),
        layer("left", "currents"),
        layer("right", "sum"),
        Flatten("flat", ("first",)),
        Linear("out", ("flat",), np.ones((7, 2 * 6 * 6)), np.zeros(7)),
        AvgPool("again", ("shortcut",), Window((3, 3), (3, 3))),
        Flatten("vector", ("again",)),
        Linear("pooled twice", ("vector",), np.ones((5, 2)), np.zeros(5)),
    )
    graph = Graph(1, (2, 6, 6), nodes)
    edges = {e.target: (e.kind, e.fan, e.fan_out, e.window) for e in counting.edges(graph, first)}
    assert edges == {
        "branch": ("conv", 4, 36, 1),
        "side": ("conv", 4, 4, 1),
        "right": ("identity", 1, 1, 4),
        "widen": ("conv", 2, 8, 1),
        "out": ("linear", 7, 7, 1),
        "pooled twice": ("linear", 5, 5, 36),
    }
    units = torch.from_numpy(np.random.default_rng(0).integers(0, 5, (3, 2, 6, 6))).double()
    nothing = torch.zeros(3, 4, 3, 3, dtype=torch.float64)
    _, expected = reference.counts(graph, {"first": [units], "left": [nothing], "right": [nothing]})
    assert predicted(graph, first, units).tolist() == expected[:, 0].tolist()


def test_spikes_that_reach_what_has_no_account_are_refused() -> None:
    first = layer("first", "images")
    into_sum = (
        first,
        conv("current", "first", 1, 1, Window((1, 1))),
        Add("sum", ("first", "current")),
        conv("reads", "sum", 1, 1, Window((1, 1))),
    )
    with pytest.raises(ValueError, match="reads a sum of spikes and currents, which is real-valued"):
        counting.edges(Graph(1, (1, 4, 4), into_sum), first)
    into_norm = (first, Affine("norm", ("first",), np.ones(1), np.zeros(1)))
    with pytest.raises(ValueError, match="first: spikes go into norm, which has no account"):
        counting.edges(Graph(1, (1, 4, 4), into_norm), first)


# --- The graph's outputs ---------------------------------------------------------------------------------------------


def chain(case: str) -> Graph:
    """A stem, something behind it, and a read-out."""
    sketch = Sketch(timesteps=3, levels=3, factored=case == "factored")
    size = 8 if case == "even, border dropped" else 7
    stem = sketch.stem(4)
    match case:
        case "kernel 1":
            last, features = sketch.neurons("last", sketch.conv("conv", stem, 4, 6, Window((1, 1)))), 6 * 49
        case "kernel 5, groups" | "factored":
            window = Window((5, 5), (2, 2), (2, 2))
            last, features = sketch.neurons("last", sketch.conv("conv", stem, 4, 6, window, groups=2)), 6 * 16
        case "even, border dropped":
            window = Window((3, 3), (2, 2))
            last, features = sketch.neurons("last", sketch.conv("conv", stem, 4, 6, window)), 6 * 9
        case "pool drops a border":
            pool = sketch.add(AvgPool("pool", (stem,), Window((2, 2), (2, 2))))
            last, features = sketch.neurons("last", sketch.conv("conv", pool, 4, 6)), 6 * 9
        case "overlapping pool, dilation":
            pool = sketch.add(AvgPool("pool", (stem,), Window((3, 3), (1, 2), (1, 1))))
            window = Window((3, 2), (1, 1), (1, 0), (2, 1))
            last, features = sketch.neurons("last", sketch.conv("conv", pool, 4, 6, window)), 6 * 5 * 3
        case "global pool":
            pool = sketch.add(AvgPool("pool", (stem,), Window((7, 7))))
            last, features = pool, 4
        case "shortcut, pooled":
            branch = sketch.conv("branch", stem, 4, 4, Window((3, 3), (2, 2), (0, 0)))
            pool = sketch.add(AvgPool("pool", (stem,), Window((2, 2), (2, 2))))
            last, features = sketch.neurons("last", sketch.add(Add("sum", (branch, pool)))), 4 * 9
        case _:
            raise AssertionError(case)
    return sketch.graph(size, last, features)


CHAINS = (
    "kernel 1",
    "kernel 5, groups",
    "factored",
    "even, border dropped",
    "pool drops a border",
    "overlapping pool, dilation",
    "global pool",
    "shortcut, pooled",
)


@pytest.mark.parametrize("case", CHAINS)
def test_a_served_graph_counts_exactly(case: str) -> None:
    graph = chain(case)
    images = examples.images(6, graph.input_shape[1])
    expected = reference.evaluate(graph, images)
    spikes, synops = reference.counts(graph, expected.spikes)
    assert (spikes > 0).all()
    served = reference.serve(lower(graph, "float32"), images)
    assert served.spikes.dtype == served.synops.dtype == np.float64
    assert served.spikes[expected.sure].tolist() == spikes[expected.sure].tolist()
    assert served.synops[expected.sure].tolist() == synops[expected.sure].tolist()


def saturated(features: int, levels: int) -> Graph:
    """Every pixel fires ``levels`` unit spikes in one step, into a head."""
    return Graph(
        1,
        (1, 1, features),
        (
            Flatten("flat", ("images",)),
            layer("layer", "flat", levels),
            Linear("head", ("layer",), np.ones((2, features)), np.zeros(2), head=True),
        ),
    )


@pytest.mark.parametrize("provider", reference.PROVIDERS)
def test_counts_beyond_float32_are_still_exact(provider: Provider) -> None:
    """4,099 synapses a spike: more than 2²⁴ operations, odd in number."""
    nodes = (
        layer("first", "images", 255),
        conv("conv", "first", 3, 4099, Window((1, 1))),
        layer("second", "conv", 1),
        AvgPool("pool", ("second",), Window((5, 5))),
        Flatten("flat", ("pool",)),
        Linear("head", ("flat",), np.ones((2, 4099)), np.zeros(2), head=True),
    )
    graph = Graph(1, (3, 5, 5), nodes)
    images = 255 * torch.ones(2, 3, 5, 5)
    images[1, 0, 0, 0] = 254
    served = reference.serve(lower(graph, "float32"), images, provider)
    units = [3 * 25 * 255, 3 * 25 * 255 - 1]
    assert served.spikes.tolist() == [[u, 4099 * 25] for u in units]
    assert served.synops.tolist() == [[4099 * u, 2 * 4099 * 25] for u in units]
    assert min(served.synops[:, 0]) > 2**24
    assert np.float32(served.synops[0, 0]) != served.synops[0, 0]


def test_a_layer_at_float32s_bound_is_counted_exactly_and_one_beyond_is_refused() -> None:
    features = (2**24 - 1) // 255
    assert features * 255 == 2**24 - 1
    images = torch.full((1, 1, 1, features), 300.0)
    served = reference.serve(lower(saturated(features, 255), "float32"), images)
    assert served.spikes.tolist() == [[2**24 - 1]]
    assert served.synops.tolist() == [[2 * (2**24 - 1)]]
    with pytest.raises(ValueError, match=r"layer: a row of 65794 neurons can count to 16777470, beyond float32"):
        lower(saturated(features + 1, 255), "float32")


def test_the_bound_takes_how_often_a_column_is_read_into_account() -> None:
    """700 channels of 240 units on a row of 40: below 2²⁴, but a 5-wide kernel reads most columns 5 times."""

    def graph(kernel: int) -> Graph:
        window = Window((1, kernel), padding=(0, kernel // 2))
        nodes = (
            layer("layer", "images", 240),
            conv("conv", "layer", 700, 1, window),
            layer("last", "conv"),
            Flatten("flat", ("last",)),
            Linear("head", ("flat",), np.ones((2, 40)), np.zeros(2), head=True),
        )
        return Graph(1, (700, 1, 40), nodes)

    assert lower(graph(1), "float32")
    with pytest.raises(ValueError, match=f"can count to {700 * 240 * (5 * 40 - 6)}, beyond float32"):
        lower(graph(5), "float32")


# --- What the manifest says ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("architecture", "tgim"), [("vgg", "full"), ("resnet", "factored"), ("resnet", "full")])
def test_the_manifest_describes_the_modules_of_the_network(architecture: str, tgim: Any) -> None:
    network = examples.network(architecture, 2, tgim)
    size = examples.ARCHITECTURES[architecture][1]
    elements: dict[str, tuple[int, int, int]] = {}

    def record(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            elements[name] = (prod(inputs[0].shape[1:]), prod(output.shape[1:]), len(inputs[0]))

        return hook

    modules = dict(network.body.named_modules())
    for name, module in modules.items():
        if isinstance(module, nn.Conv2d | nn.Linear | Neuron | Head):
            module.register_forward_hook(record(name))
    network(examples.images(1, size), 4)
    graph = trace(network, 4, (1, size, size))

    described = counting.connections(graph)
    weighted = [n for n, m in modules.items() if isinstance(m, nn.Conv2d | nn.Linear)]
    names = [n.removesuffix(".linear") if isinstance(modules[n.rpartition(".")[0]], Head) else n for n in weighted]
    assert sorted(c.name for c in described) == sorted(names)
    for connection in described:
        module = modules[connection.name]
        weight = module.linear.weight if isinstance(module, Head) else module.weight
        inputs, outputs, rows = elements[connection.name]
        taps = prod(weight.shape[1:])
        assert (connection.macs, connection.weights) == (outputs * taps, weight.numel())
        assert (connection.inputs, connection.outputs) == (inputs, outputs)
        assert connection.kind == ("conv" if isinstance(module, nn.Conv2d) else "linear")
        assert connection.analog == (connection is described[0])
        each_step = rows == 4 and not isinstance(module, Head)
        assert connection.runs == ("each_step" if each_step else "once")

    layers = counting.layers(graph)
    assert [x.name for x in layers] == [n for n, m in modules.items() if isinstance(m, Neuron)]
    for position, described_layer in enumerate(layers):
        neuron = modules[described_layer.name]
        assert isinstance(neuron, Neuron)
        assert described_layer.neurons == elements[described_layer.name][0]
        assert described_layer.threshold == neuron.threshold.item()
        assert described_layer.leak
        assert described_layer.tgim == ("full" if tgim == "full" and position else "gains")
    kinds = [[e.kind for e in x.edges] for x in layers]
    if architecture == "resnet":  # two identity blocks, one with a 1×1 shortcut, global pool, head
        block = [["conv", "identity"], ["conv"]]
        assert kinds == [*block, *block, ["conv", "conv"], ["conv"], ["linear"]]
        assert [x.edges[-1].target for x in layers[:2]] == [layers[2].name, layers[1].edges[0].target]
        assert layers[-1].edges[0].pool_window == 16
    else:
        assert kinds == [["conv"], ["conv"], ["linear"], ["linear"]]
        assert [x.edges[0].pool_window for x in layers] == [4, 1, 1, 1]
        assert [x.edges[0].fan_out for x in layers] == [54, 54, 7, 3]


def test_one_level_without_leak_or_tgim_is_described_so() -> None:
    layers = counting.layers(trace(examples.network("vgg", 1, "none"), 2, (1, 9, 9)))
    assert {(x.leak, x.tgim) for x in layers} == {(False, "none")}
