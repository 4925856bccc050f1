"""Checkpoints of a training run: tensors in safetensors, the rest as JSON in its metadata. Never pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FILE = "checkpoint.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A run after ``epoch`` epochs, enough to go on exactly as if it had never stopped.

    ``recipe`` is the recipe's fingerprint, ``best`` the network at its lowest validation loss; ``optimizer`` has keys
    ``<parameter index>.<name>``.
    """

    recipe: str
    epoch: int
    best_loss: float
    network: Mapping[str, Tensor]
    best: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write it; a reader sees the old file or the new one, never a part."""
    tensors = {
        f"{group}/{name}": value.detach().contiguous()
        for group in ("network", "best", "optimizer")
        for name, value in getattr(checkpoint, group).items()
    }
    state = {"recipe": checkpoint.recipe, "epoch": checkpoint.epoch, "best_loss": checkpoint.best_loss}
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".tmp")
    save_file(tensors, scratch, metadata={"training": json.dumps(state)})
    scratch.replace(path)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint. Raises ValueError when the file is not one."""
    groups: dict[str, dict[str, Tensor]] = {"network": {}, "best": {}, "optimizer": {}}
    try:
        with safe_open(path, "pt") as file:
            state = json.loads((file.metadata() or {})["training"])
            for key in file.keys():  # noqa: SIM118  # not a mapping: it cannot be iterated
                group, name = key.split("/", 1)
                groups[group][name] = file.get_tensor(key)
        return Checkpoint(state["recipe"], state["epoch"], state["best_loss"], **groups)
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a training checkpoint ({error})") from error


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as flat tensors."""
    state: dict[int, dict[str, Tensor]] = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, values in state.items() for name, value in values.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put `optimizer_tensors` back into an optimizer of the same parameters."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
