"""CUDA graphs, where there is a GPU: they answer what the network answers that they were captured from."""

from __future__ import annotations

import pytest
import torch

from models.export.trace import trace
from models.fused import FusedNetwork, FusedOutputs, Precision, Weights
from models.fused.captured import Captured
from models.neuron import Tgim
from tests.interpreter import on_a_gpu
from tests.models import examples
from tests.models.examples import ARCHITECTURES

pytestmark = on_a_gpu


def fused(architecture: str, tgim: Tgim, timesteps: int, precision: Precision) -> FusedNetwork:
    size = ARCHITECTURES[architecture][1]
    graph = trace(examples.network(architecture, 2, tgim), timesteps, (1, size, size))
    return FusedNetwork(graph, Weights(torch.device("cuda")), precision)


def images(network: FusedNetwork, count: int, seed: int) -> torch.Tensor:
    return examples.images(count, network.input_shape[1], seed).cuda()


def same(found: FusedOutputs, expected: FusedOutputs) -> None:
    torch.cuda.synchronize()
    assert found.spikes.tolist() == expected.spikes.tolist()
    assert found.synops.tolist() == expected.synops.tolist()
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", ["int8", "float16", "float32"])
@pytest.mark.parametrize(
    ("architecture", "tgim", "timesteps"),
    [
        ("vgg", "full", 4),
        ("resnet", "factored", 3),
        ("resnet-large", "full", 2),
        ("ms_resnet-large", "full", 2),
    ],
)
def test_each_replay_answers_for_the_images_that_are_there(
    architecture: str, tgim: Tgim, timesteps: int, precision: Precision
) -> None:
    network = fused(architecture, tgim, timesteps, precision)
    captured = Captured(network, 5)
    for seed in range(3):
        mine = images(network, 5, seed)
        captured.images.copy_(mine)
        captured.replay()
        same(captured.outputs, network(mine))


def test_graphs_of_one_pool_are_replayed_in_any_order() -> None:
    network = fused("resnet", "full", 2, "int8")
    pool, staged = torch.cuda.graph_pool_handle(), torch.zeros(8, *network.input_shape, device="cuda")
    graphs = {batch: Captured(network, batch, pool, staged[:batch]) for batch in (8, 3, 1)}
    for seed, batch in enumerate((1, 8, 3, 8, 1)):
        mine = images(network, batch, seed)
        staged[:batch].copy_(mine)
        graphs[batch].replay()
        same(FusedOutputs(*(column.clone() for column in graphs[batch].outputs)), network(mine))


def test_a_dropped_graph_gives_its_memory_back() -> None:
    network = fused("vgg", "full", 2, "int8")
    Captured(network, 64)  # what is made once: kernels, and PyTorch's own workspaces
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    captured = Captured(network, 64)
    assert captured.outputs.logits.shape == (64, 3)
    del captured
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() <= before
