"""Quantised ANNs: made from a network's shape, and converted to LM-HT when they are trained.

A layer of LM-HT neurons with ω = 1/T and λ = 1 is a quantiser of the mean current with T·L steps and the range L·θ, so
an ANN of T·L levels and its conversion give the same answers. That needs a mixing: with L = 1 there is none, spikes
arrive unevenly, and only layers with constant currents are equal; that is plain ANN-SNN conversion. Where T·L differs
from the ANN's levels, the expected error is zero under QCFS's assumption on the currents' distribution.

Source: Hao et al., LM-HT SNN (arXiv 2402.00411), and Bu et al., QCFS (arXiv 2303.04347). The thresholds are divided by
L here, instead of the first layer's current being multiplied by it.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from models.conversion.parts import copy_own, own, parts
from models.networks.base import Network, Norm
from models.neuron import Neuron
from models.quantised import QuantisedReLU

_NAMED = 4  # modules that an error names


def as_ann(network: Network, levels: int, *, learned: bool, offset: float) -> Network:
    """A copy of a network with quantised ReLUs in place of its neurons: still a `Network`, of the single budget 1.

    Args:
        network: of the single budget 1; its weights and norms are kept.
        levels: of the ReLUs.
        learned: whether their thresholds learn.
        offset: as in `QuantisedReLU`; ½ for QCFS, 0 for what LM-HT at its initial values equals.

    A ReLU starts at the range of the neuron that it replaces, ϑ = L·θ. Raises ValueError for a network of other
    budgets.
    """
    _check_budget(network)
    ann = copy.deepcopy(network)
    for name, neuron in list(ann.named_modules()):
        if isinstance(neuron, Neuron):
            start = neuron.levels * neuron.threshold.item()
            relu = QuantisedReLU(levels, start, learned=learned, offset=offset).to(neuron.threshold)
            parent, _, child = name.rpartition(".")
            setattr(ann.get_submodule(parent), child, relu.train(neuron.training))
    return ann


def to_spiking(ann: Network, network: Network) -> Network:
    """Fill a network of LM-HT neurons from an ANN of the same architecture; returns it, in evaluation mode.

    Args:
        ann: made by `as_ann`, and trained.
        network: of any budgets, levels and T-GIM. Its values are replaced.

    Weights are copied, norms to each budget; θ = ϑ/L, v_0 = offset·θ, mask = 0, α = 0. Raises ValueError, naming
    modules, when the architectures differ; nothing is changed then.
    """
    _check_budget(ann)
    sources, targets = dict(parts(ann)), dict(parts(network))
    different = [name for name in sources | targets if not _same(sources.get(name), targets.get(name))]
    if different:
        some = ", ".join(name or "the whole" for name in different[:_NAMED])
        raise ValueError(f"not of the ANN's architecture; {len(different)} modules differ: {some}")
    with torch.no_grad():
        for name, target in targets.items():
            _fill(target, sources[name])
    return network.eval()


def _same(source: nn.Module | None, target: nn.Module | None) -> bool:
    if isinstance(target, Neuron):
        return isinstance(source, QuantisedReLU)
    if isinstance(source, Norm) and isinstance(target, Norm):
        return source.selected.num_features == target.selected.num_features
    if source is None or target is None or type(source) is not type(target):
        return False
    shapes = [[value.shape for value in own(module)] for module in (source, target)]
    # Strides, paddings and windows are no tensors, but stand in the module's own description.
    return shapes[0] == shapes[1] and source.extra_repr() == target.extra_repr()


def _fill(target: nn.Module, source: nn.Module) -> None:
    if isinstance(target, Neuron) and isinstance(source, QuantisedReLU):
        target.threshold.copy_(source.threshold / target.levels)
        for initial in target.initial_membrane.values():
            initial.fill_(source.offset)
        for parameter in (*target.mask.values(), *target.alpha.values()):
            parameter.zero_()
    elif isinstance(target, Norm) and isinstance(source, Norm):
        for norm in target.per_budget.values():
            norm.load_state_dict(source.selected.state_dict())
    else:
        copy_own(target, source)


def _check_budget(network: Network) -> None:
    if network.spiking.budgets != (1,):
        raise ValueError(f"an ANN has the single budget 1, not {', '.join(map(str, network.spiking.budgets))}")
