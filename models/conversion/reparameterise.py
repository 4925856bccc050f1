"""From LM-HT to single-threshold spikes without training: L·T steps of L = 1 for T steps of L levels.

    ω̂ = ω/L, constant over L×L blocks       so the same mask, each value L×L times (L times when factored)
    λ on the first sub-step of each window, v_0 included; 1 on the others
    biases, norm shifts and running means divided by L in layers fed by spikes
    the first layer's whole current divided by L; in MS-ResNets that is the stem's whole output
    class scores: the sum over the L·T steps divided by T, so the head's weight is multiplied by L

Within the window of a step every sub-step then receives x_t/L. It fires as often as the multi-level neuron fires at
once wherever the membrane that enters, λ·v_{t−1}, lies in [0, θ); spike trains can differ only where it is negative
and x_t > L·θ, or is θ or more and x_t < 0.

Source: Hao et al., LM-HT SNN (arXiv 2402.00411), section on reparameterisation.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.bundle import MAX_TIMESTEPS
from models.networks.base import Head, Network, Norm, Scale, SpikeMaxPool
from models.neuron import Neuron, PerBudget


def reparameterise(network: Network) -> Network:
    """A copy of a network with single-threshold spikes and L·T steps for each of its budgets T, in evaluation mode.

    Raises ValueError, with the reason, for a network that has single-threshold spikes already, no T-GIM, a max pool on
    spikes, or too many steps.
    """
    levels = network.spiking.levels
    _check(network)
    changed = copy.deepcopy(network).eval()
    budgets = tuple(levels * t for t in network.spiking.budgets)
    scale = changed.input_scale
    scale.factor = scale.factor / levels
    changed.spiking = dataclasses.replace(
        network.spiking, budgets=budgets, levels=1, substeps=levels, input_scale=scale.factor
    )
    heads = {module.linear for module in changed.modules() if isinstance(module, Head)}
    first = _first_layer(changed)
    with torch.no_grad():
        for module in changed.modules():
            if isinstance(module, Neuron):
                _split(module, levels)
            elif isinstance(module, Norm):
                module.per_budget = nn.ModuleDict({str(levels * int(t)): n for t, n in module.per_budget.items()})
                if module not in first:
                    for norm in module.per_budget.values():
                        assert isinstance(norm, nn.BatchNorm1d)
                        assert norm.running_mean is not None  # statistics are always tracked
                        norm.bias.div_(levels)
                        norm.running_mean.div_(levels)
            elif module in heads:
                module.get_parameter("weight").mul_(levels)
            elif isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None and module not in first:
                module.bias.div_(levels)
            if isinstance(module, PerBudget):
                module.budgets, module.timesteps = budgets, budgets[-1]
    return changed


def reparameterised(parameters: Mapping[str, Any], network: Network) -> dict[str, Any]:
    """The arguments that build a network of the shape of `reparameterise`'s, from those of the original one's."""
    spiking = network.spiking
    return {
        **parameters,
        "budgets": list(spiking.budgets),
        "levels": spiking.levels,
        "substeps": spiking.substeps,
        "input_scale": spiking.input_scale,
    }


def _check(network: Network) -> None:
    spiking = network.spiking
    if spiking.levels == 1:
        raise ValueError("its spikes have a single threshold already")
    if spiking.tgim == "none":
        raise ValueError("without a T-GIM its currents would have to be spread over the sub-steps of each step")
    if any(isinstance(module, SpikeMaxPool) for module in network.modules()):
        raise ValueError(
            "there is a max pool on spikes: the largest of several spikes of L levels is not the sum of the largest "
            "of each sub-step, so that single-threshold spikes would give another network"
        )
    most = spiking.levels * max(spiking.budgets)
    if most > MAX_TIMESTEPS:
        raise ValueError(f"it would have {most} time-steps; there can be {MAX_TIMESTEPS}")


def _first_layer(network: Network) -> set[nn.Module]:
    """The convolution and norms before the current that is scaled."""
    for module in network.modules():
        if any(isinstance(child, Scale) for child in module.children()):
            return {child for child in module.modules() if isinstance(child, nn.Conv2d | Norm)}
    raise ValueError("the network does not say which its first layer is")


def _split(neuron: Neuron, levels: int) -> None:
    neuron.levels, neuron.substeps = 1, levels
    neuron.mask = _renamed(neuron.mask, levels, lambda mask: _blocks(mask, levels))
    neuron.alpha = _renamed(neuron.alpha, levels, lambda alpha: alpha)
    neuron.initial_membrane = _renamed(neuron.initial_membrane, levels, lambda initial: initial)


def _renamed(values: nn.ParameterDict, levels: int, change: Callable[[Tensor], Tensor]) -> nn.ParameterDict:
    """What was held for T is held for L·T, changed."""
    return nn.ParameterDict(
        {
            str(levels * int(t)): nn.Parameter(change(value.detach()).clone(), requires_grad=value.requires_grad)
            for t, value in values.items()
        }
    )


def _blocks(mask: Tensor, levels: int) -> Tensor:
    """Each value ``levels`` times along every axis."""
    for axis in range(mask.ndim):
        mask = mask.repeat_interleave(levels, axis)
    return mask
