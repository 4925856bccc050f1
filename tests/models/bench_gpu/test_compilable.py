from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from models.bench.gpu.compilable import compilable, in_half
from models.bench.random_network import Tgim, network
from models.networks import Network
from models.neuron import Neuron

NETWORKS: list[tuple[str, Tgim, dict[str, Any], int]] = [
    ("vgg", "full", {"widths": [[4], [6, 6]], "classes": 3, "hidden": [7]}, 8),
    ("resnet", "factored", {"widths": [4, 6], "depths": [1, 1], "classes": 3}, 8),
    ("resnet", "full", {"widths": [4], "depths": [1], "classes": 3, "large_stem": True}, 16),
    ("vgg", "full", {"widths": [[4]], "classes": 3, "levels": 1}, 8),
]


Given = tuple[Network, Tensor]


@pytest.fixture(params=NETWORKS, ids=lambda given: f"{given[0]}-{given[1]}")
def given(request: pytest.FixtureRequest) -> Given:
    """A network in double precision whose neurons leak, and images for it."""
    architecture, tgim, parameters, size = request.param
    spiking = network(architecture, tgim, (3,), parameters, size=size).double()
    with torch.no_grad():
        for module in spiking.modules():
            if isinstance(module, Neuron):
                for alpha in module.alpha.values():
                    alpha.fill_(0.3)
    return spiking, torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def test_it_computes_the_same_and_leaves_the_network_as_it_was(given: Given) -> None:
    spiking, images = given
    made = compilable(spiking)
    with torch.inference_mode():
        expected, found = spiking(images, 3), made(images, 3)
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected)
    assert {type(module) for module in spiking.modules() if isinstance(module, Neuron)} == {Neuron}


@pytest.mark.long
def test_it_is_taken_whole(given: Given) -> None:
    """By Dynamo alone: that no part is left to Python is seen without a compiler's minutes."""
    spiking, images = given
    made = compilable(spiking)
    torch.compiler.reset()
    whole = torch.compile(lambda images: made(images, 3), fullgraph=True, dynamic=False, backend="eager")
    with torch.inference_mode():
        torch.testing.assert_close(whole(images), spiking(images, 3))


def test_in_half_precision_kernels_lie_channels_last() -> None:
    half = in_half(network("vgg", "full", (1,), {"widths": [[4, 6]], "classes": 3}), torch.device("cpu"))
    kernels = [parameter for parameter in half.parameters() if parameter.dim() == 4]
    assert len(kernels) == 2
    for kernel in kernels:
        assert kernel.dtype == torch.float16
        assert kernel.is_contiguous(memory_format=torch.channels_last)
