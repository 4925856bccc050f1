"""The loop that trains all budgets of one network together.

Each step runs the largest budget, the smallest and one of the others at random; the smaller ones learn from the labels
and from the largest one's answer. Validation images choose the epoch that is kept. At the end the norms' statistics
are estimated anew for each budget, on undistorted training images.

Everything random in epoch e comes from a generator seeded with (seed, e), so a resumed run equals an unbroken one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from models.data import LabelledImages
from models.networks import Network
from models.networks.base import Norm
from models.training import checkpoint
from models.training.recipes import Recipe
from models.training.sources import Source


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to: training loss, validation loss, and validation accuracy per budget (0..1)."""

    number: int
    loss: float
    validation_loss: float
    accuracy: dict[int, float]
    kept: bool


def train(
    recipe: Recipe,
    training: Source,
    validation: LabelledImages,
    folder: Path,
    *,
    network: Network | None = None,
    epochs: int | None = None,
    on_step: Callable[[int, int], None] = lambda step, steps: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Network:
    """Train, or go on training, in ``folder``; returns the network with the lowest validation loss.

    A checkpoint is written after every epoch. ``network`` is where training starts, with the recipe's budgets, if it is
    not the recipe's own untrained one; give the same one to go on. ``epochs`` stops early, for a part of the recipe's
    schedule; on_step gets the step and the number of steps of the whole recipe. Raises ValueError when the folder's
    checkpoint is of another recipe.
    """
    torch.manual_seed(recipe.seed)
    network = recipe.build() if network is None else network
    optimizer = _optimizer(network, recipe)
    per_epoch = math.ceil(len(training) / recipe.batch)
    steps = per_epoch * recipe.epochs
    done, best_loss, best = 0, math.inf, _copy(network)
    path = folder / checkpoint.FILE
    if path.exists():
        saved = checkpoint.load(path)
        if saved.recipe != recipe.fingerprint():
            raise ValueError(f"{path} is of another recipe than {recipe.name!r} is now; give another folder")
        network.load_state_dict(dict(saved.network))
        checkpoint.restore_optimizer(optimizer, saved.optimizer)
        done, best_loss, best = saved.epoch, saved.best_loss, dict(saved.best)
    for epoch in range(done, recipe.epochs if epochs is None else min(epochs, recipe.epochs)):
        network.train()
        total = 0.0
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)
        for index, (images, labels) in enumerate(training.batches(recipe.batch, generator)):
            step = epoch * per_epoch + index
            for group in optimizer.param_groups:
                group["lr"] = _learning_rate(recipe, step, steps)
            optimizer.zero_grad(set_to_none=True)
            total += _step(network, images, labels, recipe, generator) * len(labels)
            optimizer.step()
            on_step(step + 1, steps)
        loss, accuracy = validate(network, validation)
        kept = loss < best_loss
        if kept:
            best_loss, best = loss, _copy(network)
        state = network.state_dict()
        saved = checkpoint.Checkpoint(
            recipe.fingerprint(), epoch + 1, best_loss, state, best, checkpoint.optimizer_tensors(optimizer)
        )
        checkpoint.save(path, saved)
        on_epoch(Epoch(epoch + 1, total / len(training), loss, accuracy, kept))
    network.load_state_dict(best)
    reestimate_norms(network, training.plain())
    return network.eval()


def validate(network: Network, data: LabelledImages, batch: int = 250) -> tuple[float, dict[int, float]]:
    """Cross-entropy, its mean over the budgets, and accuracy (0..1) of each budget."""
    network.eval()
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    losses, accuracy = [], {}
    with torch.inference_mode():
        for timesteps in network.spiking.budgets:
            logits = torch.cat([network(part, timesteps) for part in images.split(batch)])
            losses.append(float(functional.cross_entropy(logits, labels)))
            accuracy[timesteps] = float((logits.argmax(1) == labels).double().mean())
    return sum(losses) / len(losses), accuracy


def reestimate_norms(network: Network, images: Tensor, batch: int = 250) -> None:
    """Set every norm's running mean and variance, per budget, to the average over these images' batches."""
    norms = [module for module in network.modules() if isinstance(module, Norm)]
    network.train()
    with torch.no_grad():
        for timesteps in network.spiking.budgets:
            network.select(timesteps)
            for norm in norms:
                norm.selected.reset_running_stats()
                norm.selected.momentum = None  # a cumulative average
            for part in images.split(batch):
                network(part)
            for norm in norms:
                norm.selected.momentum = 0.1
    network.eval()


def _copy(network: Network) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def _optimizer(network: Network, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer; only matrices and kernels decay, not norms, masks, leaks and biases."""
    decays: list[Tensor] = []
    rest: list[Tensor] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            (decays if name.endswith("weight") and parameter.dim() > 1 else rest).append(parameter)
    groups = [{"params": decays, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate)


def _learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    warmup = max(1, round(recipe.warmup * steps))
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _step(network: Network, images: Tensor, labels: Tensor, recipe: Recipe, generator: torch.Generator) -> float:
    """Accumulate the gradients of the budgets of one step; returns the summed loss over their number."""
    *smaller, largest = recipe.budgets
    logits = network(images, largest)
    loss = functional.cross_entropy(logits, labels)
    loss.backward()
    teacher = logits.detach().softmax(1)
    chosen = smaller[:1]
    if len(smaller) > 1:
        chosen.append(smaller[1 + int(torch.randint(len(smaller) - 1, (), generator=generator))])
    total = float(loss.detach())
    for timesteps in chosen:
        logits = network(images, timesteps)
        divergence = functional.kl_div(logits.log_softmax(1), teacher, reduction="batchmean")
        loss = functional.cross_entropy(logits, labels) + recipe.distillation * divergence
        loss.backward()
        total += float(loss.detach())
    return total / (1 + len(chosen))
