"""Smaller budgets, and the factored T-GIM, of an imported network; which norms they get, and how they measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from models import networks
from models.bundle import FloatArray
from models.conversion import Choice, choose_norms, classes_of, derive, to_factored
from models.importing.importer import Imported
from models.networks.base import Network

ImportedTgim = Literal["full", "factored"]


@dataclass(frozen=True)
class Derived:
    """A network made of an imported one, and the arguments that build one of its shape.

    ``answers``: the class that the imported network itself gives each image, int64 [n], None without images.
    ``norms``: of the budgets that are not the imported network's own, what was measured.
    """

    network: Network
    parameters: dict[str, Any]
    answers: npt.NDArray[np.int64] | None
    norms: dict[int, Choice]


def smaller(
    imported: Imported,
    budgets: Sequence[int],
    tgim: ImportedTgim,
    images: FloatArray | None = None,
    labels: npt.NDArray[np.int64] | None = None,
    on_images: Callable[[int], None] = lambda done: None,
) -> Derived:
    """The network with these budgets, at most the imported one's T, and this T-GIM.

    Norms are those of the checkpoint; with images, those of each new budget are re-estimated where that measures
    better: by the labels, or without them by agreement with the imported network. on_images is called with the number
    of images just run, `images_to_run` in all.

    Raises ValueError for budgets that there cannot be, and for L = 1, which has no T-GIM to factor.
    """
    original = imported.network
    (trained,) = original.spiking.budgets
    parameters = {**imported.parameters, "budgets": sorted(set(budgets)), "tgim": tgim}
    answers = None
    if images is not None:
        answers = classes_of(original, trained, torch.from_numpy(images)).numpy()
        on_images(len(images))
    network = original
    if tgim == "factored":
        if original.spiking.tgim == "none":
            raise ValueError("plain integrate-and-fire neurons (L = 1) have no T-GIM that could be factored")
        target = networks.build(imported.architecture, {**imported.parameters, "tgim": tgim})
        network = to_factored(original, target)
    network = derive(network, budgets).eval()
    norms: dict[int, Choice] = {}
    if images is not None and answers is not None:
        wanted = torch.from_numpy(answers if labels is None else labels)
        norms = choose_norms(
            network, new_budgets(imported, network.spiking.budgets, tgim), torch.from_numpy(images), wanted, on_images
        )
    return Derived(network, parameters, answers, norms)


def new_budgets(imported: Imported, budgets: Sequence[int], tgim: ImportedTgim) -> list[int]:
    """The budgets whose layers are not the checkpoint's own."""
    return [t for t in sorted(set(budgets)) if tgim == "factored" or t not in imported.network.spiking.budgets]


def images_to_run(imported: Imported, budgets: Sequence[int], tgim: ImportedTgim, count: int) -> int:
    """How many images `smaller` runs in all, of so many that it is given, for a progress bar."""
    return count * (1 + (4 * len(new_budgets(imported, budgets, tgim)) if count > 1 else 0))
