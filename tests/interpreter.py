"""Kernels run compiled where there is a GPU, and in Triton's interpreter elsewhere; which one is fixed on import."""

from __future__ import annotations

import os

import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"

on_a_gpu = pytest.mark.skipif(DEVICE == "cpu", reason="needs an NVIDIA GPU")


def take_large_tiles(patch: pytest.MonkeyPatch) -> None:
    """Tiles as for many images, and larger: of small ones the interpreter makes slow work. On a GPU they stay."""
    if DEVICE == "cuda":
        return
    from models.kernels import configs, neuron

    patch.setattr(configs, "_PROGRAMS", 1)
    patch.setattr(neuron, "neuron_config", lambda *_: configs.NeuronConfig(8192, 4))
