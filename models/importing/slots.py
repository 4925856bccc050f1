"""What a network of ours needs from a state dict: one slot per tensor, and the keys that may lie beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.importing.layout import Layout, State
from models.networks.base import Network, Norm
from models.neuron import Neuron

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Slot:
    """A tensor of the file: its key, the shapes it may have there, and ours, which has as many elements.

    ``optional``: ours keeps its value where the file has none. ``rule``: whether its values make sense, and in words.
    """

    key: str
    target: Tensor
    shapes: tuple[Shape, ...]
    optional: bool = False
    rule: tuple[Callable[[Tensor], Tensor], str] | None = None

    def problem(self, state: State) -> str | None:
        """What is wrong with the file's tensor; None when nothing is."""
        wanted = " or ".join(str(list(shape)) for shape in self.shapes if shape)
        tensor = state.get(self.key)
        if tensor is None:
            return None if self.optional else f"{self.key}: missing; its shape would be {wanted}"
        if tuple(tensor.shape) not in self.shapes:
            return f"{self.key}: shape {list(tensor.shape)}, not {wanted}"
        if not tensor.is_floating_point():
            return f"{self.key}: {str(tensor.dtype).removeprefix('torch.')} numbers, not floating-point ones"
        # NaN and infinity survive a sum, which is ten times as quick as a look at each value.
        if not tensor.sum(dtype=torch.float64).isfinite() and (unfit := int((~tensor.isfinite()).sum())):
            return f"{self.key}: {unfit} of {tensor.numel()} values are NaN or infinite"
        if self.rule and not bool(self.rule[0](tensor).all()):
            return f"{self.key}: {self.rule[1]}"
        return None

    def fill(self, state: State) -> None:
        """Copy the file's values."""
        if self.key in state:
            with torch.no_grad():
                self.target.copy_(state[self.key].reshape(self.target.shape))


@dataclass(frozen=True)
class Slots:
    """All that a network needs, and the keys of a complete checkpoint that it does not."""

    needed: tuple[Slot, ...]
    ignored: frozenset[str]


def slots(network: Network, layout: Layout) -> Slots:
    """The slots of a network with one budget, in order of its modules."""
    needed: list[Slot] = []
    ignored: set[str] = set()
    for name, module in network.named_modules():
        match module:
            case nn.Conv2d() | nn.Linear():
                prefix = layout.modules[name]
                needed += [_same(f"{prefix}.{key}", value) for key, value in module.named_parameters()]
            case Norm():
                prefix = layout.modules[name]
                needed += _norm(prefix, module.selected)
                ignored.add(f"{prefix}.num_batches_tracked")
            case Neuron():
                prefix = layout.modules[name]
                vector = name in layout.vectors
                needed += _neuron(prefix, module, vector)
                # The authors' neuron stores both masks whichever it uses, and after a forward pass an alias, `core`.
                ignored |= {f"{prefix}.core", f"{prefix}.{'mask' if vector else 'mask_linear'}"}
    for prefix in layout.idle:
        ignored |= {f"{prefix}.{key}" for key in ("v_threshold", "alpha", "mask", "mask_linear", "core")}
    return Slots(tuple(needed), frozenset(ignored))


def _same(key: str, target: Tensor) -> Slot:
    return Slot(key, target, (tuple(target.shape),))


def _norm(prefix: str, norm: nn.BatchNorm1d) -> list[Slot]:
    assert norm.running_mean is not None  # statistics are always tracked
    assert norm.running_var is not None
    rule = (lambda variance: variance >= 0, "a variance is negative")
    return [
        _same(f"{prefix}.weight", norm.weight),
        _same(f"{prefix}.bias", norm.bias),
        _same(f"{prefix}.running_mean", norm.running_mean),
        Slot(f"{prefix}.running_var", norm.running_var, (tuple(norm.running_var.shape),), rule=rule),
    ]


def _neuron(prefix: str, neuron: Neuron, vector: bool) -> list[Slot]:
    key, t = str(neuron.timesteps), neuron.timesteps
    plain = neuron.levels == 1
    rule = (lambda threshold: threshold > 0, "a threshold must be positive")
    found = [Slot(f"{prefix}.v_threshold", neuron.threshold, ((1,), ()), optional=plain, rule=rule)]
    if not plain:
        found.append(Slot(f"{prefix}.alpha", neuron.alpha[key], ((1,),)))
        if vector:
            # Released code wrote either rank; both mix over time alone.
            shapes: tuple[Shape, ...] = ((t, t, 1, 1), (t, t, 1, 1, 1))
            found.append(Slot(f"{prefix}.mask_linear", neuron.mask[key], shapes))
        else:
            found.append(Slot(f"{prefix}.mask", neuron.mask[key], ((t, t, 1, 1, 1, 1),)))
    return found
