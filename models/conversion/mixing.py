"""M-HT: the LM-HT neuron without what it learns about time."""

from __future__ import annotations

import torch

from models.networks.base import Network
from models.neuron import Neuron


def freeze_mixing(network: Network) -> None:
    """Set every T-GIM and leak to ω_tj = 1/T (gains 1 when factored) and λ = 1, and keep them from learning.

    What is left is the paper's M-HT. It changes the network in place; the values that its masks and leaks had are lost.
    """
    for module in network.modules():
        if isinstance(module, Neuron):
            for parameter in (*module.mask.values(), *module.alpha.values()):
                with torch.no_grad():
                    parameter.zero_()
                parameter.requires_grad_(False)
