"""Recipes: everything that determines a trained network, under a name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from models import networks
from models.data import dataset
from models.neuron import Tgim


@dataclass(frozen=True)
class Recipe:
    """How a network is made and trained.

    ``architecture`` and ``parameters`` name a builder of `models.networks` and what the data set does not say.
    ``learning_rate`` is the peak, after a warm-up over ``warmup`` of the steps, of a cosine down to zero.
    ``distillation`` weighs the divergence of the smaller budgets from the largest against their cross-entropy.
    ``sgd`` has a momentum of 0.9.
    """

    name: str
    description: str
    dataset: str
    architecture: str
    parameters: Mapping[str, Any]
    budgets: tuple[int, ...]
    levels: int
    tgim: Tgim
    epochs: int
    batch: int = 64
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 4e-3
    weight_decay: float = 2e-2
    warmup: float = 0.1
    distillation: float = 1.0
    seed: int = 1

    def arguments(self) -> dict[str, Any]:
        """The builder's arguments, as they stand in a bundle's manifest too."""
        data = dataset(self.dataset)
        return {
            "channels": data.input.channels,
            "classes": len(data.classes),
            **self.parameters,
            "budgets": list(self.budgets),
            "levels": self.levels,
            "tgim": self.tgim,
            "mean": list(data.input.mean),
            "std": list(data.input.std),
        }

    def fingerprint(self) -> str:
        """A digest of all that determines the trained network: a run is only resumed where it is the same."""
        told = {name: value for name, value in dataclasses.asdict(self).items() if name != "description"}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def build(self) -> networks.Network:
        """The untrained network."""
        return networks.build(self.architecture, self.arguments())


_MNIST = Recipe(
    name="mnist",
    description=(
        "Handwritten digits at 28×28, from a network of six spiking convolutions with the factored T-GIM: "
        "one convolution a layer whatever the number of time-steps."
    ),
    dataset="mnist",
    architecture="vgg",
    parameters={"widths": [[16, 16], [32, 32], [64, 64]]},
    budgets=(1, 2, 4, 8),
    levels=2,
    tgim="factored",
    epochs=80,
)

_NUMBERS = Recipe(
    name="numbers",
    description=(
        "Two-digit numbers at 28×48, overlapping, cluttered and noisy, from a network of six spiking convolutions with "
        "the full T×T T-GIM. What more time-steps buy is robustness: on clean pictures they are worth a point at most, "
        "and the gap grows with noise and low contrast (`lmht stress` measures it)."
    ),
    dataset="numbers",
    architecture="vgg",
    parameters={"widths": [[12], [24, 24], [48, 48], [64]], "grid": [3, 6]},
    budgets=(1, 2, 4),
    levels=2,
    tgim="full",
    epochs=60,
)

RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _MNIST,
        dataclasses.replace(
            _MNIST,
            name="mnist-full",
            description="Handwritten digits at 28×28: the network of `mnist` with the full T×T T-GIM.",
            budgets=(1, 2, 4),
            tgim="full",
        ),
        _NUMBERS,
        dataclasses.replace(
            _NUMBERS,
            name="numbers-factored",
            description=(
                "Two-digit numbers at 28×48: the network of `numbers` with the factored T-GIM, one convolution a layer "
                "whatever the number of time-steps. More of them buy robustness against noise, overlap and low "
                "contrast (`lmht stress` measures it)."
            ),
            budgets=(1, 2, 4, 8),
            tgim="factored",
        ),
    )
}


def recipe(name: str) -> Recipe:
    """Look a recipe up. Raises ValueError for an unknown name."""
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; there are {', '.join(sorted(RECIPES))}")
    return RECIPES[name]
