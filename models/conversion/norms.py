"""Norms of budgets that were made without training: kept, or re-estimated on images, whichever measures better.

Both are compared on images that the re-estimated norms did not see: those of one half of the images are measured on
the other half, and the other way round. What is then used is re-estimated on all of them.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from models.networks.base import Network, Norm
from models.training.loop import reestimate_norms

_BATCH = 100


@dataclass(frozen=True)
class Choice:
    """How often a budget gives the wanted class with its norms kept, and re-estimated; 0 to 1."""

    kept: float
    reestimated: float

    @property
    def better(self) -> Literal["kept", "re-estimated"]:
        """The name of the better; norms are kept where both measure the same."""
        return "re-estimated" if self.reestimated > self.kept else "kept"


def choose_norms(
    network: Network,
    budgets: Collection[int],
    images: Tensor,
    wanted: Tensor,
    on_images: Callable[[int], None] = lambda done: None,
) -> dict[int, Choice]:
    """Give a network the better norms for some of its budgets, in place; returns what was measured.

    Args:
        network: in evaluation mode.
        budgets: those that are decided on.
        images: [n, C, H, W]; with one alone norms are kept and nothing is measured.
        wanted: the class that each image should be given, int64 [n]: its label, or another network's answer.
        on_images: called with the number of images just run, 4·n for each budget in all.
    """
    choices: dict[int, Choice] = {}
    if len(images) < 2:
        return choices
    halves = torch.arange(len(images)) % 2 == 0
    for timesteps in budgets:
        right = {"kept": _right(network, timesteps, images, wanted), "re-estimated": 0}
        on_images(len(images))
        for half in (halves, ~halves):
            other = _reestimated(network, timesteps, images[half])
            right["re-estimated"] += _right(other, timesteps, images[~half], wanted[~half])
            on_images(len(images))
        choice = Choice(right["kept"] / len(images), right["re-estimated"] / len(images))
        if choice.better == "re-estimated":
            _copy_norms(_reestimated(network, timesteps, images), network, timesteps)
        on_images(len(images))
        choices[timesteps] = choice
    return choices


def classes_of(network: Network, timesteps: int, images: Tensor) -> Tensor:
    """The class that a network gives each image, int64 [n]."""
    with torch.inference_mode():
        return torch.cat([network(part, timesteps).argmax(1) for part in images.split(_BATCH)])


def _right(network: Network, timesteps: int, images: Tensor, wanted: Tensor) -> int:
    return int((classes_of(network, timesteps, images) == wanted).sum())


def _reestimated(network: Network, timesteps: int, images: Tensor) -> Network:
    """A copy whose norms of one budget have the images' statistics."""
    copied = copy.deepcopy(network)
    copied.spiking = dataclasses.replace(network.spiking, budgets=(timesteps,))
    reestimate_norms(copied, images, _BATCH)
    return copied


def _copy_norms(source: Network, target: Network, timesteps: int) -> None:
    """Copy what the norms of one budget hold."""
    for theirs, mine in zip(source.modules(), target.modules(), strict=True):
        if isinstance(theirs, Norm) and isinstance(mine, Norm):
            mine.per_budget[str(timesteps)].load_state_dict(theirs.per_budget[str(timesteps)].state_dict())
