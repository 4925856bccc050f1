"""The modules of a network that conversions go through."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from models.networks.base import Network, Norm
from models.neuron import Neuron


def parts(network: Network) -> Iterator[tuple[str, nn.Module]]:
    """All modules but those within neurons and norms, whose contents depend on the budgets."""
    inner: tuple[str, ...] = ()
    for name, module in network.named_modules():
        if name.startswith(inner):
            continue
        yield name, module
        if isinstance(module, Neuron | Norm):
            inner += (f"{name}.",)


def own(module: nn.Module) -> list[Tensor]:
    """The module's own tensors, without its children's."""
    return [*module.parameters(recurse=False), *module.buffers(recurse=False)]


def copy_own(target: nn.Module, source: nn.Module) -> None:
    """Copy those of another module of the same kind."""
    for mine, theirs in zip(own(target), own(source), strict=True):
        mine.copy_(theirs)
