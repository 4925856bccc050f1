from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from models.bench.gpu.relu import ReluNetwork
from models.bench.random_network import Tgim, network
from models.export.graph import IMAGES, Affine, Graph
from models.export.trace import trace
from models.networks import Network
from models.neuron import Neuron

SMALL_RESNET = {"widths": [4, 6], "depths": [1, 1], "classes": 3}
NETWORKS: list[tuple[str, Tgim, dict[str, Any], int]] = [
    ("vgg", "full", {"widths": [[4], [6, 6]], "classes": 3, "hidden": [7]}, 8),
    ("resnet", "full", SMALL_RESNET, 8),
    ("resnet", "factored", SMALL_RESNET | {"large_stem": True}, 16),
    ("ms_resnet", "full", SMALL_RESNET, 8),
]


def with_relus(spiking: Network) -> Network:
    """The same modules, with a ReLU wherever there are neurons."""
    plain = copy.deepcopy(spiking)
    for module in list(plain.modules()):
        for name, child in module.named_children():
            if isinstance(child, Neuron):
                setattr(module, name, nn.ReLU())
    return plain


@pytest.mark.parametrize(("architecture", "tgim", "parameters", "size"), NETWORKS)
def test_it_is_the_network_with_relus_for_neurons(
    architecture: str, tgim: Tgim, parameters: dict[str, Any], size: int
) -> None:
    spiking = network(architecture, tgim, (1,), parameters, size=size).double()
    plain = ReluNetwork(trace(spiking, 1, (3, size, size)), torch.float64, torch.device("cpu"))
    images = torch.rand(5, 3, size, size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    with torch.no_grad():
        expected = with_relus(spiking)(images, 1)
        found = plain(images)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(found, expected)


def test_a_norm_that_no_weights_take_in_is_refused() -> None:
    norm = Affine("norm", (IMAGES,), np.ones(3), np.zeros(3))
    with pytest.raises(ValueError, match="norm: there is no Affine"):
        ReluNetwork(Graph(1, (3, 8, 8), (norm,)), torch.float32, torch.device("cpu"))


def test_of_several_time_steps_there_is_none() -> None:
    spiking = network("vgg", "full", (2,), {"widths": [[4]]})
    with pytest.raises(ValueError, match="one time-step, not 2"):
        ReluNetwork(trace(spiking, 2, (3, 32, 32)), torch.float32, torch.device("cpu"))
