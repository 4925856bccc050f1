"""The ONNX graph against float64 implementations of the network: same spikes, same counts, close logits.

Random networks amplify one flipped spike into other logits, so images with a membrane within float32's rounding of a
threshold are left out; see `reference.Run.sure`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from models.export.graph import Add, Affine, AvgPool, Graph, Window
from models.export.lowering import Precision, lower
from models.export.trace import trace
from models.networks import Network
from models.networks.base import Norm
from models.networks.ms_resnet import MSBlock
from models.networks.resnet import Shortcut
from models.neuron import Neuron, Tgim
from tests.models import examples, reference
from tests.models.examples import ARCHITECTURES, Sketch

KINDS: list[tuple[int, Tgim]] = [
    (1, "none"),
    (2, "full"),
    (2, "factored"),
    (2, "none"),
    (4, "full"),
    (4, "factored"),
    (4, "none"),
]


NETWORKS = ["vgg", "resnet", "vgg-biased", "resnet-large", "ms_resnet", "ms_resnet-large"]


def agree(graph: Graph, served: reference.Served, expected: reference.Run) -> None:
    """Counts exactly, logits closely, on the images on which float32 cannot differ."""
    spikes, synops = reference.counts(graph, expected.spikes)
    sure = expected.sure
    assert (spikes.sum(0) > 0).all(), "a silent layer tests nothing"
    assert served.spikes[sure].tolist() == spikes[sure].tolist()
    assert served.synops[sure].tolist() == synops[sure].tolist()
    np.testing.assert_allclose(served.logits[sure], expected.logits[sure], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("levels", "tgim"), KINDS)
@pytest.mark.parametrize("architecture", NETWORKS)
def test_the_float32_graph_equals_the_network_in_float64_at_every_budget(
    architecture: str, levels: int, tgim: Tgim
) -> None:
    network, size = examples.network(architecture, levels, tgim), ARCHITECTURES[architecture][1]
    images = examples.images(6, size)
    for timesteps in examples.BUDGETS:
        graph = trace(network, timesteps, (1, size, size))
        agree(graph, reference.serve(lower(graph, "float32"), images), reference.run(network, timesteps, images))


@pytest.mark.parametrize(("levels", "tgim"), KINDS)
@pytest.mark.parametrize("architecture", NETWORKS)
def test_the_int8_graph_equals_the_network_with_its_weights_rounded(architecture: str, levels: int, tgim: Tgim) -> None:
    network, size = examples.network(architecture, levels, tgim), ARCHITECTURES[architecture][1]
    images = examples.images(6, size)
    for timesteps in (1, 4):
        graph = trace(network, timesteps, (1, size, size))
        expected = reference.run(rounded(network, timesteps), timesteps, images)
        agree(graph, reference.serve(lower(graph, "int8"), images), expected)


@pytest.mark.skipif(not reference.OPENVINO, reason="needs openvino")
@pytest.mark.parametrize(
    ("architecture", "levels", "tgim", "timesteps", "precision"),
    [
        ("vgg", 2, "full", 3, "int8"),
        ("vgg", 4, "factored", 4, "int8"),
        ("vgg-pooled", 1, "none", 2, "int8"),
        ("resnet", 2, "full", 2, "float32"),
        ("resnet", 4, "factored", 3, "int8"),
        ("vgg-biased", 2, "full", 2, "int8"),
        ("resnet-large", 2, "full", 3, "int8"),
        ("resnet-large", 4, "factored", 3, "int8"),
        ("resnet-large", 2, "full", 2, "float32"),
        ("ms_resnet", 2, "full", 3, "int8"),
        ("ms_resnet", 4, "factored", 2, "float32"),
        ("ms_resnet-large", 2, "full", 2, "int8"),
    ],
)
def test_openvino_agrees_too(architecture: str, levels: int, tgim: Tgim, timesteps: int, precision: Precision) -> None:
    network, size = examples.network(architecture, levels, tgim), ARCHITECTURES[architecture][1]
    images = examples.images(6, size)
    graph = trace(network, timesteps, (1, size, size))
    network = rounded(network, timesteps) if precision == "int8" else network
    served = reference.serve(lower(graph, precision), images, "openvino")
    agree(graph, served, reference.run(network, timesteps, images))


def rounded(network: Network, timesteps: int) -> Network:
    """The network in float64 with 8-bit weights behind spikes, norms' scales included, at one budget.

    Per output channel, in steps of peak/limit. The limit follows from what spikes add up to: L, T times as much when
    factored, 4 times as much behind a 2×2 pool, and 9 times behind one of a whole map, which are 3×3 here.
    """
    network = copy.deepcopy(network).double()
    currents = {
        m.shortcut.conv for m in network.modules() if isinstance(m, MSBlock) and isinstance(m.shortcut, Shortcut)
    }
    pool = 1
    for first, second in units(network):
        if isinstance(first, nn.AvgPool2d | nn.AdaptiveAvgPool2d):
            pool = 4 if isinstance(first, nn.AvgPool2d) else 9
        if not isinstance(first, nn.Conv2d | nn.Linear) or first in currents:
            continue
        scale = torch.ones(len(first.weight), dtype=torch.float64)
        if isinstance(second, Norm):
            second.timesteps = timesteps
            norm = second.selected
            assert norm.running_var is not None
            scale = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach()
        scale = scale.reshape(-1, *[1] * (first.weight.ndim - 1))
        neuron = next(m for m in network.modules() if isinstance(m, Neuron))
        maximum = neuron.levels * (timesteps if neuron.tgim == "factored" else 1) * pool
        limit = 127 if maximum * 254 <= 32767 else 32767 // (2 * maximum)
        effective = first.weight.detach() * scale
        step = effective.abs().flatten(1).amax(1).reshape(scale.shape) / limit
        first.weight.data = torch.round(effective / step) * step / scale
        pool = 1
    return network


def units(network: Network) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Modules with weights, and pools, each with the module registered behind it; without the stem."""
    kinds = nn.Conv2d | nn.Linear | nn.AvgPool2d | nn.AdaptiveAvgPool2d | Norm
    leaves = [m for m in network.modules() if isinstance(m, kinds)]
    return iter(list(pairwise(leaves))[1:])


# --- What networks of today do not have, but a graph may -------------------------------------------------------------


def odd_graph(case: str) -> Graph:
    sketch = Sketch(timesteps=3, levels=2, factored=case.startswith("factored"))
    stem, size = sketch.stem(4), 6
    match case:
        case "current with a second reader":  # 1/θ cannot go into the weights
            current = sketch.conv("conv", stem, 4, 4)
            summed = sketch.add(Add("sum", (current, sketch.neurons("left", current))))
            last, features = sketch.neurons("last", summed), 4 * 36
        case "norm behind a sum":
            currents = sketch.conv("conv", stem, 4, 4), sketch.conv("side", stem, 4, 4, Window((1, 1)))
            summed = sketch.add(Add("sum", currents))
            norm = Affine("norm", (summed,), np.array([0.5, 1.5, 1.0, 0.75]), np.array([0.1, 0.0, -0.1, 0.2]))
            last, features = sketch.neurons("last", sketch.add(norm)), 4 * 36
        case "neurons on pooled spikes":
            pool = sketch.add(AvgPool("pool", (stem,), Window((2, 2), (2, 2))))
            last, features = sketch.neurons("last", pool), 4 * 9
        case "neurons on spikes":
            last, features = sketch.neurons("last", stem), 4 * 36
        case "padded pool as large as the map":
            pool = sketch.add(AvgPool("pool", (stem,), Window((6, 6), (2, 2), (3, 3))))
            last, features = sketch.neurons("last", sketch.conv("conv", pool, 4, 4)), 4 * 16
        case "pools of pools":
            pool = sketch.add(AvgPool("pool", (stem,), Window((2, 2), (1, 1))))
            pool = sketch.add(AvgPool("pool2", (pool,), Window((3, 3), (2, 2), (1, 1))))
            last, features = sketch.neurons("last", sketch.conv("conv", pool, 4, 4)), 4 * 9
        case "pooled current":
            pool = sketch.add(AvgPool("pool", (sketch.conv("conv", stem, 4, 4),), Window((3, 3), (3, 3))))
            last, features = sketch.neurons("last", pool), 4 * 4
        case "static picture beside spikes":  # the shortcut of the images has no time axis, the branch has one
            picture = sketch.conv("picture", "images", 1, 4)
            summed = sketch.add(Add("sum", (sketch.conv("conv", stem, 4, 4), picture)))
            last, features = sketch.neurons("last", summed), 4 * 36
        case "residual" | "factored residual":
            summed = sketch.add(Add("sum", (sketch.conv("conv", stem, 4, 4), stem)))
            nested = sketch.add(Add("sum2", (summed, sketch.conv("side", stem, 4, 4, Window((1, 1)), groups=2))))
            last, features = sketch.neurons("last", nested), 4 * 36
        case "pool before the read-out" | "factored pool before the read-out":
            last, features = sketch.add(AvgPool("pool", (stem,), Window((3, 3), (2, 2)))), 4 * 4
        case _:
            raise AssertionError(case)
    return sketch.graph(size, last, features)


ODD = (
    "current with a second reader",
    "norm behind a sum",
    "neurons on pooled spikes",
    "neurons on spikes",
    "padded pool as large as the map",
    "pools of pools",
    "pooled current",
    "static picture beside spikes",
    "residual",
    "factored residual",
)


@pytest.mark.parametrize("case", ODD)
def test_odd_graphs_keep_their_meaning(case: str) -> None:
    graph = odd_graph(case)
    images = examples.images(6, 6)
    agree(graph, reference.serve(lower(graph, "float32"), images), reference.evaluate(graph, images))


@pytest.mark.skipif(not reference.OPENVINO, reason="needs openvino")
@pytest.mark.parametrize("precision", ["int8", "float32"])
@pytest.mark.parametrize("case", [*ODD, "pool before the read-out", "factored pool before the read-out"])
def test_odd_graphs_mean_the_same_to_both_runtimes(case: str, precision: Precision) -> None:
    """OpenVINO's own transformations for 8 bits must not round what is not to be rounded."""
    model, images = lower(odd_graph(case), precision), examples.images(6, 6)
    expected, found = (reference.serve(model, images, provider) for provider in reference.PROVIDERS)
    assert found.spikes.tolist() == expected.spikes.tolist()
    assert found.synops.tolist() == expected.synops.tolist()
    np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not reference.OPENVINO, reason="needs openvino")
@pytest.mark.parametrize("behind", ["convolution", "neurons"])
@pytest.mark.parametrize("maximum", [4, 252, 256, 400])
def test_pooled_sums_are_exact_in_both_runtimes(maximum: int, behind: str) -> None:
    model, images = lower(sums_up_to(maximum, behind), "int8"), examples.images(6, 6)
    expected, found = (reference.serve(model, images, provider) for provider in reference.PROVIDERS)
    assert found.spikes.tolist() == expected.spikes.tolist()
    np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-4, atol=1e-4)


def sums_up_to(maximum: int, behind: str = "convolution") -> Graph:
    """Spikes that a 2×2 pool adds up to ``maximum`` in front of a convolution, or of neurons."""
    sketch = Sketch(timesteps=1, levels=maximum // 4)
    stem = sketch.neurons("stem", sketch.conv("stem/conv", "images", 1, 4), gains=True, threshold=0.02)
    pool = sketch.add(AvgPool("pool", (stem,), Window((2, 2), (2, 2))))
    current = sketch.conv("conv", pool, 4, 4) if behind == "convolution" else pool
    return sketch.graph(6, sketch.neurons("last", current, threshold=0.02), 4 * 9)


@pytest.mark.parametrize(("maximum", "limit"), [(4, 127), (128, 127), (132, 124), (252, 65)])
def test_int8_weights_stay_below_the_limit_of_what_they_multiply(maximum: int, limit: int) -> None:
    codes = constants(lower(sums_up_to(maximum), "int8"))
    weights = codes["conv/int8"]
    assert weights.dtype == np.int8
    assert np.abs(weights.astype(int)).max() == limit
    assert 2 * maximum * limit <= 32767


@pytest.mark.parametrize("tgim", ["full", "factored"])
@pytest.mark.parametrize("architecture", ["resnet", "vgg"])
def test_what_convolves_spikes_is_eight_bits_wide_and_cannot_be_folded(architecture: str, tgim: Tgim) -> None:
    """Weights come as bytes through a quantisation, spikes as bytes: else a provider multiplies float32, silently."""
    size = ARCHITECTURES[architecture][1]
    model = onnx.load_from_string(lower(trace(examples.network(architecture, 2, tgim), 2, (1, size, size)), "int8"))
    made_by = {output: node for node in model.graph.node for output in node.output}
    constant = {tensor.name: tensor.data_type for tensor in model.graph.initializer}

    def chain(tensor: str) -> list[str]:
        found = []
        while (node := made_by.get(tensor)) is not None:
            found.append(node.op_type)
            tensor = node.input[0]
        return [*found, onnx.TensorProto.DataType.Name(constant[tensor])] if tensor in constant else found

    stem, *others = [node for node in model.graph.node if node.op_type == "Conv"]
    assert chain(stem.input[1]) == ["FLOAT"]
    assert len(others) > 4
    for conv in others:
        assert chain(conv.input[1]) == ["DequantizeLinear", "QuantizeLinear", "Cast", "INT8"], conv.name
        assert chain(conv.input[0])[0] == "DequantizeLinear", conv.name


def test_spikes_beyond_eight_bits_keep_float32_weights() -> None:
    graph = sums_up_to(256)
    model = lower(graph, "int8")
    assert "conv/weight" in constants(model)
    images = examples.images(6, 6)
    served, expected = reference.serve(model, images), reference.evaluate(graph, images)
    assert max(total.max() for total in expected.totals().values()) > 40
    agree(graph, served, expected)


def constants(model: bytes) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load_from_string(model).graph.initializer}


# --- The file --------------------------------------------------------------------------------------------------------


def test_the_file_has_the_contracts_inputs_and_outputs() -> None:
    model = onnx.load_from_string(lower(trace(examples.network("vgg", 2, "full"), 2, (1, 9, 9)), "int8"))

    def described(values: object) -> dict[str, tuple[int, list[str | int]]]:
        return {
            v.name: (v.type.tensor_type.elem_type, [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim])
            for v in values  # type: ignore[attr-defined]
        }

    assert described(model.graph.input) == {"images": (onnx.TensorProto.FLOAT, ["batch", 1, 9, 9])}
    assert described(model.graph.output) == {
        "logits": (onnx.TensorProto.FLOAT, ["batch", 3]),
        "spikes": (onnx.TensorProto.DOUBLE, ["batch", 4]),
        "synops": (onnx.TensorProto.DOUBLE, ["batch", 4]),
    }
    assert (model.ir_version, model.opset_import[0].version) == (10, 18)
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize(("tgim", "rows"), [("full", [2, 8, 8]), ("factored", [2, 2, 2])])
def test_a_convolution_runs_once_over_all_steps_stacked_or_over_their_sum_alone(tgim: Tgim, rows: list[int]) -> None:
    model = onnx.load_from_string(lower(trace(examples.network("vgg-pooled", 2, tgim), 4, (1, 7, 7)), "float32"))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    shapes = {v.name: v.type.tensor_type.shape for v in onnx.shape_inference.infer_shapes(model).graph.value_info}
    convolutions = [n.output[0] for n in model.graph.node if n.op_type == "Conv" and "channels" not in n.name]
    assert [shapes[name].dim[0].dim_value for name in convolutions] == rows


@pytest.mark.parametrize("tgim", ["full", "factored"])
def test_answers_do_not_depend_on_the_batch(tgim: Tgim) -> None:
    """Steps lie along the batch axis of one tensor: an image must not see another one's time-steps."""
    network, images = examples.network("resnet", 2, tgim), examples.images(5, 7)
    model = lower(trace(network, 3, (1, 7, 7)), "float32")
    together = reference.serve(model, images)
    for index in range(5):
        alone = reference.serve(model, images[index : index + 1])
        assert alone.spikes.tolist() == together.spikes[index : index + 1].tolist()
        assert alone.synops.tolist() == together.synops[index : index + 1].tolist()
        np.testing.assert_allclose(alone.logits, together.logits[index : index + 1], rtol=1e-5, atol=1e-5)


def test_the_same_network_gives_the_same_file() -> None:
    files = {lower(trace(examples.network("vgg", 2, "full"), 2, (1, 9, 9)), "int8") for _ in range(2)}
    assert len(files) == 1
