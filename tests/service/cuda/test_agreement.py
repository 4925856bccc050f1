"""The bundled models on a GPU against the engine on a CPU, on pictures that they were not trained on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from models import bundle, data
from models.bundle import ZOO, Outputs
from service.engines import EngineOptions, open_engine
from tests.interpreter import DEVICE, on_a_gpu

BUNDLES = sorted(ZOO.glob("*/1"))
# Pictures: all there are on a GPU; interpreted, as many as a minute allows.
COUNT = None if DEVICE == "cuda" else 4


def outputs(path: Path, device: str, timesteps: int, images: np.ndarray) -> Outputs:
    sizes = (1, 8, 32, 128) if device == "cuda" and DEVICE == "cuda" else (min(len(images), 128),)
    options = EngineOptions(batch_sizes=sizes, device=device)  # type: ignore[arg-type]
    with closing(open_engine(bundle.load(path), options)) as engine:
        parts = [engine.run(images[start : start + 500], timesteps) for start in range(0, len(images), 500)]
    return Outputs(*(np.concatenate([getattr(p, name) for p in parts]) for name in Outputs.__match_args__))


@pytest.mark.long
@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.parent.name)
def test_a_bundled_model_answers_as_on_a_cpu(path: Path) -> None:
    manifest = bundle.load(path).manifest
    accuracy = manifest.budgets[-1].accuracy
    assert accuracy is not None
    images = data.load(accuracy.dataset, "test").images[:COUNT]
    for timesteps in manifest.timesteps if DEVICE == "cuda" else (2,):
        found, expected = (outputs(path, device, timesteps, images) for device in ("cuda", "cpu"))
        assert (found.logits.argmax(1) == expected.logits.argmax(1)).mean() >= 0.995
        assert found.spikes.sum() == pytest.approx(expected.spikes.sum(), rel=0.005)
        assert found.synops.sum() == pytest.approx(expected.synops.sum(), rel=0.005)


@on_a_gpu
def test_batches_that_overlap_keep_their_answers() -> None:
    path = ZOO / "mnist-full" / "1"
    images = data.load("mnist", "validation").images
    batches = [images[start : start + 1 + start % 40] for start in range(0, 400, 7)]
    with closing(open_engine(bundle.load(path), EngineOptions(batch_sizes=(1, 8, 32), device="cuda"))) as engine:
        alone = [engine.run(batch, 2) for batch in batches]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda batch: engine.run(batch, 2), batches))
    for found, expected in zip(together, alone, strict=True):
        assert found.spikes.tolist() == expected.spikes.tolist()
        assert found.synops.tolist() == expected.synops.tolist()
        np.testing.assert_array_equal(found.logits, expected.logits)


@on_a_gpu
def test_a_closed_engine_gives_its_memory_back() -> None:
    made = bundle.load(ZOO / "mnist" / "1")
    reserved = []
    for _ in range(3):
        with closing(open_engine(made, EngineOptions(batch_sizes=(1, 32), device="cuda"))) as engine:
            assert engine.name.startswith("triton/cuda:")
        torch.cuda.synchronize()
        reserved.append(torch.cuda.memory_reserved())
    assert reserved[2] <= reserved[0]
