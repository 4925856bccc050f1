"""A fused network against the network in float64: the same spikes, exactly; and against the graph that is served."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from models.conversion.reparameterise import reparameterise
from models.export.graph import Add, Graph, TimeMean, Window
from models.export.lowering import lower
from models.export.trace import trace
from models.fused import FusedNetwork, FusedOutputs, Precision, Weights
from models.neuron import Tgim
from tests.models import examples, reference
from tests.models.examples import ARCHITECTURES, Sketch
from tests.models.test_lowering import KINDS, NETWORKS, ODD, odd_graph, rounded

# One of each family quickly; all of them, of every kind, among the long ones.
QUICK: list[tuple[str, int, Tgim, int, Precision]] = [
    ("vgg", 2, "full", 3, "int8"),
    ("vgg-biased", 4, "factored", 2, "int8"),
    ("resnet", 2, "full", 2, "int8"),
    ("resnet", 4, "factored", 4, "float32"),
    ("resnet-large", 2, "full", 2, "int8"),
    ("resnet-large", 4, "factored", 3, "int8"),
    ("ms_resnet", 1, "none", 2, "int8"),
    ("ms_resnet-large", 2, "factored", 2, "int8"),
]
ALL = [(a, levels, tgim, t, p) for a in NETWORKS for levels, tgim in KINDS for t, p in ((3, "int8"), (2, "float32"))]
CASES = [*QUICK, *(pytest.param(*case, marks=pytest.mark.long) for case in ALL if case not in QUICK)]


class Answers(NamedTuple):
    logits: np.ndarray
    spikes: np.ndarray
    synops: np.ndarray


def run(graph: Graph, images: Tensor, precision: Precision, device: torch.device) -> Answers:
    found = FusedNetwork(graph, Weights(device), precision)(images.to(device))
    assert (found.logits.dtype, found.spikes.dtype, found.synops.dtype) == (torch.float32, torch.int64, torch.int64)
    return on_the_host(found)


def on_the_host(outputs: FusedOutputs) -> Answers:
    return Answers(*(column.cpu().numpy() for column in outputs))


def agree(graph: Graph, found: Answers, expected: reference.Run) -> None:
    """Counts exactly, logits closely, on the images on which float32 cannot differ."""
    spikes, synops = reference.counts(graph, expected.spikes)
    sure = expected.sure
    assert (spikes.sum(0) > 0).all(), "a silent layer tests nothing"
    assert found.spikes[sure].tolist() == spikes[sure].tolist()
    assert found.synops[sure].tolist() == synops[sure].tolist()
    np.testing.assert_allclose(found.logits[sure], expected.logits[sure], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("architecture", "levels", "tgim", "timesteps", "precision"), CASES)
def test_it_equals_the_network_in_float64(
    architecture: str, levels: int, tgim: Tgim, timesteps: int, precision: Precision, device: torch.device
) -> None:
    network, size = examples.network(architecture, levels, tgim), ARCHITECTURES[architecture][1]
    images, graph = examples.images(4, size), trace(network, timesteps, (1, size, size))
    exact = rounded(network, timesteps) if precision == "int8" else network
    agree(graph, run(graph, images, precision, device), reference.run(exact, timesteps, images))


@pytest.mark.parametrize("precision", ["int8", "float32"])
@pytest.mark.parametrize("case", [*ODD, "pool before the read-out", "factored pool before the read-out"])
def test_odd_graphs_mean_the_same_as_to_the_engine_on_a_cpu(
    case: str, precision: Precision, device: torch.device
) -> None:
    graph, images = odd_graph(case), examples.images(4, 6)
    found = run(graph, images, precision, device)
    served = reference.serve(lower(graph, "int8" if precision == "int8" else "float32"), images)
    assert found.spikes.tolist() == served.spikes.tolist()
    assert found.synops.tolist() == served.synops.tolist()
    np.testing.assert_allclose(found.logits, served.logits, rtol=1e-4, atol=1e-4)


def sum_of(case: str) -> Graph:
    """A sum in which one must not be taken for the other."""
    sketch = Sketch(timesteps=3)
    stem = sketch.stem(4)
    match case:
        case "picture that outweighs the spikes":
            parts = sketch.conv("conv", stem, 4, 4, Window((1, 1))), sketch.conv("picture", "images", 1, 4)
        case "current twice":
            parts = (sketch.conv("conv", stem, 4, 4),) * 2
        case "pictures alone":
            parts = sketch.conv("one", "images", 1, 4), sketch.conv("picture", "images", 1, 4)
        case _:
            parts = sketch.conv("conv", stem, 4, 4), stem
    gains = case == "gains at every step"
    return sketch.graph(6, sketch.neurons("last", sketch.add(Add("sum", parts)), gains=gains), 4 * 36)


@pytest.mark.parametrize("precision", ["int8", "float32"])
@pytest.mark.parametrize(
    "case", ["picture that outweighs the spikes", "current twice", "pictures alone", "gains at every step"]
)
def test_a_sum_is_that_of_its_parts(case: str, precision: Precision, device: torch.device) -> None:
    graph, images = sum_of(case), examples.images(4, 6)
    found = run(graph, images, precision, device)
    served = reference.serve(lower(graph, "int8" if precision == "int8" else "float32"), images)
    assert served.spikes[:, -1].all()
    assert found.spikes.tolist() == served.spikes.tolist()
    assert found.synops.tolist() == served.synops.tolist()
    np.testing.assert_allclose(found.logits, served.logits, rtol=1e-4, atol=1e-4)


def test_a_mean_over_time_of_currents_is_that_of_the_engine_on_a_cpu(device: torch.device) -> None:
    sketch = Sketch(timesteps=3)
    mean = sketch.add(TimeMean("mean", (sketch.conv("conv", sketch.stem(4), 4, 4),)))
    graph, images = sketch.graph(6, mean, 4 * 36), examples.images(4, 6)
    found = run(graph, images, "float32", device)
    np.testing.assert_allclose(found.logits, reference.evaluate(graph, images).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("architecture", "tgim", "timesteps"),
    [("ms_resnet", "full", 2), pytest.param("vgg", "factored", 4, marks=pytest.mark.long)],
)
def test_float16_moves_few_spikes(architecture: str, tgim: Tgim, timesteps: int, device: torch.device) -> None:
    network, size = examples.network(architecture, 2, tgim), ARCHITECTURES[architecture][1]
    images, graph = examples.images(4, size), trace(network, timesteps, (1, size, size))
    found = run(graph, images, "float16", device)
    expected = reference.run(network, timesteps, images)
    spikes, synops = reference.counts(graph, expected.spikes)
    assert found.spikes.sum() == pytest.approx(spikes.sum(), rel=0.005)
    assert found.synops.sum() == pytest.approx(synops.sum(), rel=0.005)


@pytest.mark.parametrize(("levels", "timesteps"), [(2, 2), (4, 3)])
def test_single_threshold_sub_steps_and_more_than_eight_steps_run_too(
    levels: int, timesteps: int, device: torch.device
) -> None:
    """4 sub-steps of 2 levels, and 12 of 4: no kernel has their neurons."""
    network, size = examples.network("vgg", levels, "full"), ARCHITECTURES["vgg"][1]
    split = reparameterise(network)
    steps, images = levels * timesteps, examples.images(4, size)
    graph = trace(split, steps, (1, size, size))
    agree(graph, run(graph, images, "float32", device), reference.evaluate(graph, images))
    served = reference.serve(lower(graph, "int8"), images)
    found = run(graph, images, "int8", device)
    assert found.spikes.tolist() == served.spikes.tolist()
    assert found.synops.tolist() == served.synops.tolist()


@pytest.mark.parametrize(("timesteps", "levels"), [(9, 2), (1, 130)])
def test_more_steps_or_levels_than_the_kernels_take_run_too(timesteps: int, levels: int, device: torch.device) -> None:
    sketch = Sketch(timesteps=timesteps, levels=levels)
    stem = sketch.neurons("stem", sketch.conv("stem/conv", "images", 1, 4), gains=True, threshold=0.01)
    graph = sketch.graph(6, sketch.neurons("last", sketch.conv("conv", stem, 4, 4), threshold=0.02), 4 * 36)
    images = examples.images(4, 6)
    found, served = run(graph, images, "int8", device), reference.serve(lower(graph, "int8"), images)
    assert found.spikes.tolist() == served.spikes.tolist()
    assert found.synops.tolist() == served.synops.tolist()
    np.testing.assert_allclose(found.logits, served.logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tgim", ["full", "factored"])
def test_budgets_share_all_weights_that_multiply_spikes(tgim: Tgim, device: torch.device) -> None:
    network, size = examples.network("resnet", 2, tgim), ARCHITECTURES["resnet"][1]
    weights = Weights(device)
    sizes = []
    for timesteps in examples.BUDGETS:
        FusedNetwork(trace(network, timesteps, (1, size, size)), weights, "int8")
        sizes.append(weights.nbytes)
    matrices = [p for name, p in network.body.named_parameters() if p.ndim == 4]
    stem, *others = matrices
    assert sizes == [4 * stem.numel() + sum(p.numel() for p in others)] * len(examples.BUDGETS)


def test_an_image_does_not_see_another_one(device: torch.device) -> None:
    network, size = examples.network("vgg-pooled", 2, "full"), ARCHITECTURES["vgg-pooled"][1]
    images, graph = examples.images(3, size).to(device), trace(network, 2, (1, size, size))
    fused = FusedNetwork(graph, Weights(device), "int8")
    together = on_the_host(fused(images))
    alone = on_the_host(fused(images[2:]))
    assert alone.spikes.tolist() == together.spikes[2:].tolist()
    assert alone.synops.tolist() == together.synops[2:].tolist()
    np.testing.assert_allclose(alone.logits, together.logits[2:], rtol=1e-5, atol=1e-5)
