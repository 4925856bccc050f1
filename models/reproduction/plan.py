"""What is trained: the methods that the paper compares, on one data set, for several seeds.

Each experiment is one network. Some start from another's: a conversion from its ANN, a derived budget from the network
of one budget.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from models.data import dataset
from models.neuron import Tgim
from models.training.recipes import Recipe

Method = Literal[
    "qcfs-ann", "conversion", "hybrid-start", "hybrid", "quantised-ann", "if", "m-ht", "lm-ht", "lm-ht-joint", "derived"
]
# What `models.conversion` and `models.training` are to do with an experiment's network before it is trained.
Norms = Literal["kept", "re-estimated"]

LEVELS = 2
BUDGETS = (1, 2, 4)
CONVERSION_BUDGETS = (1, 2, 4, 8)
# L and T of the hybrid networks: the paper's L2T2, L2T4 and L4T2, and a single time-step.
HYBRIDS = ((2, 1), (2, 2), (2, 4), (4, 2))


@dataclass(frozen=True)
class Body:
    """A network's shape: a builder of `models.networks` and its parameters, under the name a report gives it."""

    label: str
    architecture: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Study:
    """What differs between data sets.

    ``body`` is trained directly; each of ``hybrids`` is trained as a QCFS ANN with so many levels and converted.
    ``training`` and ``tuning`` are fields of the recipes: of every training, and of the fine-tuning after it.
    """

    dataset: str
    body: Body
    hybrids: tuple[tuple[Body, int], ...]
    training: Mapping[str, Any]
    tuning: Mapping[str, Any]


_MNIST = Body("5-layer VGG", "vgg", {"widths": [[8], [16, 16], [32, 32]]})
_NUMBERS = Body("4-layer VGG", "vgg", {"widths": [[8], [16], [32], [32]], "grid": [3, 6]})
_RESNET18 = Body("ResNet-18", "resnet18", {})
_VGG16 = Body(
    "VGG-16",
    "vgg",
    {"widths": [[64] * 2, [128] * 2, [256] * 3, [512] * 3, [512] * 3], "grid": [2, 2], "hidden": [4096, 4096]},
)
_RESNET20 = Body("ResNet-20", "resnet", {"widths": [16, 32, 64], "depths": [3, 3, 3]})
# The paper's recipe; its batch size is not stated there, this one is ours.
_PAPER_TRAINING = {
    "epochs": 300,
    "batch": 128,
    "optimizer": "sgd",
    "learning_rate": 0.025,
    "weight_decay": 5e-4,
    "warmup": 0.0,
}
_PAPER_TUNING = {**_PAPER_TRAINING, "epochs": 30, "learning_rate": 5e-4}

STUDIES: Mapping[str, Study] = {
    study.dataset: study
    for study in (
        Study("mnist", _MNIST, ((_MNIST, 4),), {"epochs": 12}, {"epochs": 3, "learning_rate": 5e-4}),
        Study("numbers", _NUMBERS, ((_NUMBERS, 4),), {"epochs": 6}, {"epochs": 2, "learning_rate": 5e-4}),
        *(
            Study(name, _RESNET18, ((_VGG16, 4), (_RESNET20, 8)), _PAPER_TRAINING, _PAPER_TUNING)
            for name in ("cifar10", "cifar100")
        ),
    )
}


@dataclass(frozen=True)
class Experiment:
    """One network: how it is made, trained (not at all with 0 epochs) and named.

    ``start`` is the experiment whose network it is made from. An ANN's ``recipe.levels`` are its activations', and
    its only budget is 1. ``limit`` caps the pictures of a training epoch and of the test, for a quick look.
    """

    name: str
    method: Method
    body: Body
    recipe: Recipe
    start: Experiment | None = None
    norms: Norms = "kept"
    limit: int | None = None

    @property
    def work(self) -> int:
        """About proportional to its time: epochs times the steps of its passes."""
        return max(1, self.recipe.epochs * sum(self.recipe.budgets))

    def fingerprint(self) -> str:
        """A digest of all that determines its result."""
        start = self.start.fingerprint() if self.start else None
        told = [self.recipe.fingerprint(), self.method, start, self.norms, self.limit]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def plan(study: Study, seeds: int, limit: int | None = None) -> list[Experiment]:
    """All experiments of a study; one that starts from another comes after it.

    With a ``limit``, epochs have at most so many pictures, and there is one epoch.
    """
    if limit is not None:
        one = {"epochs": 1}
        study = dataclasses.replace(study, training={**study.training, **one}, tuning={**study.tuning, **one})
    return [e for seed in range(1, seeds + 1) for part in (_direct, _hybrid) for e in part(study, seed, limit)]


def _direct(study: Study, seed: int, limit: int | None) -> Iterator[Experiment]:
    def make(name: str, method: Method, budgets: tuple[int, ...], levels: int, tgim: Tgim) -> Experiment:
        recipe = _recipe(study, study.body, f"{name}-seed{seed}", budgets, levels, tgim, seed)
        return Experiment(recipe.name, method, study.body, recipe, limit=limit)

    for timesteps in BUDGETS:
        yield make(f"quantised-ann-q{LEVELS * timesteps}", "quantised-ann", (1,), LEVELS * timesteps, "factored")
        yield make(f"if-t{timesteps}", "if", (timesteps,), 1, "none")
        yield make(f"m-ht-t{timesteps}", "m-ht", (timesteps,), LEVELS, "full")
    kinds: tuple[Tgim, ...] = ("full", "factored")
    for tgim in kinds:
        for timesteps in BUDGETS:
            # At one time-step the two are the same network.
            if timesteps > 1 or tgim == "full":
                largest = make(f"lm-ht-{tgim}-t{timesteps}", "lm-ht", (timesteps,), LEVELS, tgim)
                yield largest
        yield make(f"lm-ht-{tgim}-joint", "lm-ht-joint", BUDGETS, LEVELS, tgim)
        norms: tuple[Norms, ...] = ("kept", "re-estimated")
        for kept in norms:
            derived = make(f"derived-{tgim}-{kept}", "derived", BUDGETS, LEVELS, tgim)
            yield _from(largest, derived, {"epochs": 0}, norms=kept)


def _hybrid(study: Study, seed: int, limit: int | None) -> Iterator[Experiment]:
    for body, quantisation in study.hybrids:
        suffix = f"seed{seed}" if len(study.hybrids) == 1 else f"{body.label.lower()}-seed{seed}"

        def make(
            name: str,
            method: Method,
            budgets: tuple[int, ...],
            levels: int,
            tgim: Tgim,
            body: Body = body,
            suffix: str = suffix,
        ) -> Experiment:
            recipe = _recipe(study, body, f"{name}-{suffix}", budgets, levels, tgim, seed)
            return Experiment(recipe.name, method, body, recipe, limit=limit)

        ann = make("qcfs-ann", "qcfs-ann", (1,), quantisation, "factored")
        yield ann
        yield _from(ann, make("conversion", "conversion", CONVERSION_BUDGETS, 1, "none"), {"epochs": 0})
        for levels, timesteps in HYBRIDS:
            name = f"l{levels}t{timesteps}"
            yield _from(ann, make(f"hybrid-start-{name}", "hybrid-start", (timesteps,), levels, "full"), {"epochs": 0})
            yield _from(ann, make(f"hybrid-{name}", "hybrid", (timesteps,), levels, "full"), study.tuning)


def _recipe(
    study: Study, body: Body, name: str, budgets: tuple[int, ...], levels: int, tgim: Tgim, seed: int
) -> Recipe:
    return Recipe(
        name=name,
        description=dataset(study.dataset).description,
        dataset=study.dataset,
        architecture=body.architecture,
        parameters=body.parameters,
        budgets=budgets,
        levels=levels,
        tgim=tgim,
        seed=seed,
        **study.training,
    )


def _from(
    start: Experiment, experiment: Experiment, training: Mapping[str, Any], *, norms: Norms = "kept"
) -> Experiment:
    """The experiment, made from another's network and trained with these fields of the recipe changed."""
    recipe = dataclasses.replace(experiment.recipe, **training)
    return dataclasses.replace(experiment, recipe=recipe, start=start, norms=norms)
