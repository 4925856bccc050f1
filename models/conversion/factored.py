"""From the full T-GIM to the factored one, without training: the nearest layer of rank 1 with equal weights over j.

    g_t = Σ_j ω_tj,  so that  sigmoid(mask'_t) = g_t / 2 = (1/T) · Σ_j sigmoid(mask_tj)

Of all such layers it is the one with the least squared distance between its ω'_tj = g_t / T and ω_tj; where currents
are the same at every step, as in a static image's first layer, both mix them alike.
"""

from __future__ import annotations

import torch

from models.conversion.parts import copy_own, parts
from models.networks.base import Network, Norm
from models.neuron import Neuron


def to_factored(network: Network, target: Network) -> Network:
    """Fill a network of factored T-GIM from one of the full T-GIM; returns it, in evaluation mode.

    Args:
        network: of any budgets and L > 1.
        target: of the same architecture, budgets and levels. Its values are replaced.

    Raises ValueError when the kinds of T-GIM are not full and factored, or the networks differ otherwise.
    """
    if (network.spiking.tgim, target.spiking.tgim) != ("full", "factored"):
        raise ValueError(f"a full T-GIM can be factored, not {network.spiking.tgim!r} to {target.spiking.tgim!r}")
    if network.spiking.budgets != target.spiking.budgets:
        raise ValueError("both networks need the same budgets")
    sources = dict(parts(network))
    with torch.no_grad():
        for name, module in parts(target):
            source = sources.get(name)
            if isinstance(module, Neuron) and isinstance(source, Neuron):
                _factor(source, module)
            elif isinstance(module, Norm) and isinstance(source, Norm):
                module.load_state_dict(source.state_dict())
            elif source is not None:
                copy_own(module, source)
    return target.eval()


def _factor(source: Neuron, target: Neuron) -> None:
    target.threshold.copy_(source.threshold)
    for key, mask in source.mask.items():
        opened = torch.sigmoid(mask.double()).mean(1)
        # A gain that is 0 or 2 in float64 would need an infinite mask, which no training gets away from.
        target.mask[key].copy_(torch.logit(opened, eps=torch.finfo(torch.float64).eps))
        target.alpha[key].copy_(source.alpha[key])
        target.initial_membrane[key].copy_(source.initial_membrane[key])
