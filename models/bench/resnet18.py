"""A network of ResNet-18's size with random weights: what it answers means nothing, what it computes is the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from models.bundle import Bundle

NAME = "resnet18"
_LEVELS = 2


def write_bundle(
    path: Path, tgim: Literal["full", "factored"], made_by: str, budgets: Sequence[int] = (1,), seed: int = 0
) -> Bundle:
    """Write it as a bundle for 3×32×32 images, int8, L = 2. Needs torch."""
    import torch

    from models.data import dataset
    from models.export.exporter import Card, assemble
    from models.networks import build
    from models.training.loop import reestimate_norms

    data = dataset("cifar10")
    parameters: dict[str, Any] = {
        "channels": data.input.channels,
        "classes": len(data.classes),
        "budgets": list(budgets),
        "levels": _LEVELS,
        "tgim": tgim,
        "mean": list(data.input.mean),
        "std": list(data.input.std),
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build(NAME, parameters)
        # Norms that fit the weights keep every layer spiking.
        reestimate_norms(network, torch.rand(16, *data.input.shape))
    card = Card(NAME, "Random weights.", data.classes, data.input, NAME, parameters, made_by)
    return assemble(path, network, card, "int8")
