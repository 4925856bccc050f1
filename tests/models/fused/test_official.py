"""The authors' own networks, in float32, against what their released code computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from models.export.trace import trace
from models.fused import FusedNetwork, Weights
from models.importing import import_checkpoint
from tests.data import fixture

FIXTURES = {name: Path(fixture.__file__).parent / f"official-{name}-T2-L2.npz" for name in ("resnet18", "cifarnet")}
# The reader is not annotated.
_load = cast(Callable[[Path], tuple[dict[str, Any], dict[str, Any], Any, dict[str, Any]]], fixture.load)


@pytest.mark.long
@pytest.mark.parametrize("name", FIXTURES)
def test_float32_counts_the_authors_spikes(name: str, device: torch.device) -> None:
    meta, arrays, images, expected = _load(FIXTURES[name])
    state = {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in arrays.items()}
    network = import_checkpoint(state, levels=2).network
    graph = trace(network, 2, images.shape[1:])
    found = FusedNetwork(graph, Weights(device), "float32")(torch.from_numpy(images).to(device))
    spikes = np.stack([expected[f"spikes:{layer}"] for layer in meta["layers"]], axis=2).sum(0)
    assert found.spikes.sum().item() == pytest.approx(spikes.sum(), rel=1e-4)
    # One image has a membrane within float32's rounding of its threshold, and a flipped spike spreads.
    exact = (found.spikes.cpu().numpy() == spikes).all(1)
    assert exact.mean() > 0.75
    distance = np.abs(found.logits.cpu().numpy() - expected["logits"].mean(0)).max(1)
    assert (distance < 1e-3).mean() > 0.75
