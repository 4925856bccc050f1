"""Networks with random weights: what they answer means nothing, what they compute is what trained ones compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from models.bundle import Bundle
from models.data import dataset

if TYPE_CHECKING:
    from models.networks import Network

RESNET18 = "resnet18"
SMALL = "small"
Tgim = Literal["full", "factored"]
TGIMS: tuple[Tgim, ...] = get_args(Tgim)
# Pictures of 3×32×32.
_DATA = "cifar10"
_LEVELS = 2


def network(
    architecture: str,
    tgim: Tgim,
    budgets: Sequence[int],
    parameters: Mapping[str, Any] | None = None,
    seed: int = 0,
    size: int | None = None,
) -> Network:
    """A network for pictures of 3×32×32, ready for inference, with L = 2 unless ``parameters`` say otherwise.

    With a ``size`` it is for pictures of 3×size×size.

    Needs torch. Raises ValueError when there is no such architecture or its parameters do not fit.
    """
    import torch

    from models.networks import build
    from models.training.loop import reestimate_norms

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = build(architecture, _arguments(tgim, budgets) | dict(parameters or {}))
        # Norms that fit the weights keep every layer spiking.
        channels, *own = dataset(_DATA).input.shape
        reestimate_norms(made, torch.rand(16, channels, *([size, size] if size else own)))
    return made.eval()


def write_bundle(path: Path, tgim: Tgim, made_by: str, budgets: Sequence[int] = (1,), seed: int = 0) -> Bundle:
    """Write a ResNet-18 as a bundle, int8. Needs torch."""
    return _write(path, RESNET18, RESNET18, {}, tgim, made_by, budgets, seed)


def write_small_bundle(path: Path, made_by: str, seed: int = 0) -> Bundle:
    """Write a network of 2 million MACs an image, factored, with T = 1, as a bundle named `SMALL`. Needs torch."""
    return _write(path, SMALL, "vgg", {"widths": [[8], [16], [32]]}, "factored", made_by, (1,), seed)


def _write(
    path: Path,
    name: str,
    architecture: str,
    parameters: Mapping[str, Any],
    tgim: Tgim,
    made_by: str,
    budgets: Sequence[int],
    seed: int,
) -> Bundle:
    from models.export.exporter import Card, assemble

    data = dataset(_DATA)
    arguments = _arguments(tgim, budgets) | dict(parameters)
    card = Card(name, "Random weights.", data.classes, data.input, architecture, arguments, made_by)
    return assemble(path, network(architecture, tgim, budgets, parameters, seed), card, "int8")


def _arguments(tgim: Tgim, budgets: Sequence[int]) -> dict[str, Any]:
    data = dataset(_DATA)
    return {
        "channels": data.input.channels,
        "classes": len(data.classes),
        "budgets": list(budgets),
        "levels": _LEVELS,
        "tgim": tgim,
        "mean": list(data.input.mean),
        "std": list(data.input.std),
    }
