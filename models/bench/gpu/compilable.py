"""The network as torch.compile can take it whole.

At the neurons' own gradient it breaks off, and leaves the layers one by one to Python: no rival to measure against.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from models.networks import Network
from models.neuron import Neuron


def compilable(network: Network) -> Network:
    """A copy, for inference alone, that computes the same."""
    made = copy.deepcopy(network).eval()
    for module in made.modules():
        if isinstance(module, Neuron):
            module.__class__ = _Inferring  # the same parameters, and no gradients
    return made


class _Inferring(Neuron):
    """A layer of neurons that knows no surrogate gradient."""

    def _run(self, currents: list[Tensor]) -> list[Tensor]:
        membrane = self.initial_membrane[str(self.timesteps)] * self.threshold
        leak, outputs = self.leak, []
        for step, current in enumerate(currents):
            carried = membrane if leak is None or step % self.substeps else leak * membrane
            charged = carried + current
            outputs.append((charged / self.threshold).floor().clamp(0, self.levels) * self.threshold)
            membrane = charged - outputs[-1]
        return outputs


def in_half(network: Network, device: torch.device) -> Network:
    """The network itself, moved to float16 with its kernels channels-last."""
    network = network.to(device, torch.float16).eval()
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network
