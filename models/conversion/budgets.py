"""Smaller budgets without training: the T-GIM, initial membrane and norms of T' ≤ T steps from those of T.

A step of the coarse grid of T' is the mean of what it covers of the fine grid of T::

    P[v, t] = T' · |[v/T', (v+1)/T'] ∩ [t/T, (t+1)/T]|       rows sum to 1, columns to T'/T
    full        sigmoid(mask') = P · sigmoid(mask) · Pᵀ      so ω' = (T/T') · P ω Pᵀ
    factored    sigmoid(mask') = P · sigmoid(mask)           so g' = P g
    λ' = λ;     v_0' = θ · (½ + (m − ½) · T'/T)              for v_0 = m·θ

So for any currents on the coarse grid, each step's mixed current is the mean, over the fine steps that it covers, of
what the T-step network mixes from the same currents spread over the fine grid; over all steps the mean is the same.
The gains of a constant current (the row sums of ω, or g) are averaged in the same way: g' = P g. The initial membrane
shifts a layer's mean output by the same current as before: (v_0' − θ/2)/T' = (v_0 − θ/2)/T.

Source: the continuous-time reading of the T-GIM; this project's own.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.networks.base import Network, Norm
from models.neuron import Neuron, PerBudget


def derive(network: Network, budgets: Sequence[int]) -> Network:
    """A copy of a network that has exactly these budgets, each made from the largest one of ``network`` by averaging.

    That budget itself may be among them, and is kept as it is. Norms are kept too; `reestimate_norms` of
    `models.training.loop` fits them to the new budgets. Works for any architecture whose values per budget are in
    `Neuron` and `Norm`. Raises ValueError for no budgets, one below 1 or above the network's largest, and for a
    reparameterised network, whose steps belong together.
    """
    if network.spiking.substeps > 1:
        raise ValueError("smaller budgets come before reparameterisation: its steps belong together")
    wanted = tuple(sorted(set(budgets)))
    largest = max(network.spiking.budgets)
    if not wanted or wanted[0] < 1 or wanted[-1] > largest:
        raise ValueError(f"budgets from 1 to {largest} can be derived, not {list(budgets)}")
    derived = copy.deepcopy(network)
    derived.spiking = dataclasses.replace(network.spiking, budgets=wanted)
    for module in derived.modules():
        if isinstance(module, Neuron):
            _derive_neuron(module, largest, wanted)
        elif isinstance(module, Norm):
            kept = module.per_budget[str(largest)]
            module.per_budget = nn.ModuleDict({str(t): copy.deepcopy(kept) for t in wanted})
        if isinstance(module, PerBudget):
            module.budgets, module.timesteps = wanted, wanted[-1]
    return derived


def overlap(coarse: int, fine: int) -> Tensor:
    """P [coarse, fine], float64: the part that each fine step has in each coarse one, 1 in sum."""
    # In units of 1/(coarse·fine), so that no rounding decides whether two steps touch.
    edges = torch.arange(coarse).unsqueeze(1) * fine, torch.arange(fine) * coarse
    ends = torch.minimum(edges[0] + fine, edges[1] + coarse)
    return (ends - torch.maximum(*edges)).clamp(min=0).double() / fine


def _derive_neuron(neuron: Neuron, largest: int, budgets: tuple[int, ...]) -> None:
    key = str(largest)
    if key in neuron.mask:
        mask = neuron.mask[key]
        neuron.mask = nn.ParameterDict({str(t): _like(mask, _averaged(mask.detach(), t, largest)) for t in budgets})
    if key in neuron.alpha:
        alpha = neuron.alpha[key]
        neuron.alpha = nn.ParameterDict({str(t): _like(alpha, alpha.detach()) for t in budgets})
    initial = neuron.initial_membrane[key]
    m = initial.detach()
    neuron.initial_membrane = nn.ParameterDict(
        {str(t): _like(initial, m * (t / largest) + 0.5 * (1 - t / largest)) for t in budgets}
    )


def _averaged(mask: Tensor, coarse: int, fine: int) -> Tensor:
    """The mask of the coarse budget, [coarse, coarse] from [fine, fine], or [coarse] from [fine]."""
    if coarse == fine:
        return mask
    weights = overlap(coarse, fine).to(mask.device)
    opened = weights @ torch.sigmoid(mask.double())
    if mask.ndim == 2:
        opened = opened @ weights.T
    # A weight that is 0 or 1 in float64 would need an infinite mask, which no training gets away from.
    return torch.logit(opened, eps=torch.finfo(torch.float64).eps)


def _like(parameter: nn.Parameter, values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.to(parameter.dtype, copy=True), requires_grad=parameter.requires_grad)
