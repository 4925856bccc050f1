"""The engine on a GPU, or interpreted where there is none, beside the one on a CPU."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models import bundle
from models.bundle import Bundle, BundleError, Engine, FloatArray, Outputs
from models.fused import FusedNetwork
from service.engines import EngineError, EngineOptions, open_engine
from service.engines.cuda import engine as cuda
from service.engines.cuda.engine import CudaEngine
from service.engines.cuda.passes import DirectPasses, Passes
from tests import fused
from tests.interpreter import DEVICE
from tests.models import examples

ON_A_GPU = EngineOptions(batch_sizes=(2, 4), device="cuda")


@pytest.fixture(scope="module")
def made(folder: Path) -> Bundle:
    return bundle.load(folder / "first" / "1")


@pytest.fixture(scope="module")
def opened(made: Bundle) -> Iterator[Engine]:
    with closing(open_engine(made, ON_A_GPU)) as engine:
        yield engine


def images(count: int, seed: int = 0) -> FloatArray:
    return examples.images(count, fused.SIZE, seed).numpy()


def same(found: Outputs, expected: Outputs) -> None:
    assert [column.dtype for column in (found.logits, found.spikes, found.synops)] == [np.float32, *[np.float64] * 2]
    assert found.spikes.tolist() == expected.spikes.tolist()
    assert found.synops.tolist() == expected.synops.tolist()
    np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("timesteps", [1, 3])
def test_it_answers_as_the_engine_on_a_cpu_does(opened: Engine, made: Bundle, timesteps: int) -> None:
    """Seven images are more than one pass."""
    with closing(open_engine(made, EngineOptions(threads=1, batch_sizes=(7,), provider="cpu"))) as on_a_cpu:
        same(opened.run(images(7), timesteps), on_a_cpu.run(images(7), timesteps))


def test_its_name_says_what_runs(opened: Engine) -> None:
    expected = "triton/interpreter" if DEVICE == "cpu" else f"triton/cuda:{torch.cuda.get_device_name()}"
    assert opened.name == expected
    assert opened.batch_sizes == (2, 4)


def test_threads_do_not_get_each_others_answers(opened: Engine) -> None:
    batches = [images(1 + seed % 3, seed) for seed in range(4)]
    expected = [opened.run(batch, 1) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(lambda batch: opened.run(batch, 1), batches), expected, strict=True):
            same(found, wanted)


@pytest.mark.parametrize(
    "wrong", [np.zeros((1, 1, 7, 6), np.float32), np.zeros((1, 1, 7, 7)), np.zeros((0, 1, 7, 7), np.float32)]
)
def test_images_that_do_not_fit_are_refused(opened: Engine, wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"not float32 \['n', 1, 7, 7\]"):
        opened.run(wrong, 1)


def test_a_budget_that_there_is_not_is_refused(opened: Engine) -> None:
    with pytest.raises(ValueError, match="no budget of 5"):
        opened.run(images(1), 5)


@pytest.mark.parametrize(("asked", "expected"), [("auto", "float32"), ("int8", "int8"), ("float16", "float16")])
def test_the_precision_is_the_bundles_unless_another_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: Any, expected: str
) -> None:
    seen = []
    monkeypatch.setattr(cuda, "FusedNetwork", lambda graph, weights, precision: seen.append(precision))
    made = fused.write(tmp_path / "model" / "1", precision="float32")
    CudaEngine(made, EngineOptions(batch_sizes=(1,), device="cuda", precision=asked), make_passes=Made)
    assert seen == [expected] * len(fused.BUDGETS)


class Made:
    """Passes that answer with nothing but the sizes that they were asked for."""

    def __init__(
        self, networks: Mapping[int, FusedNetwork], sizes: tuple[int, ...], rest: Callable[[float], None]
    ) -> None:
        self.networks = networks
        self.error: RuntimeError | None = None

    def run(self, images: FloatArray, timesteps: int, size: int) -> Outputs:
        if self.error:
            raise self.error
        return Outputs(np.full((len(images), 3), size, np.float32), *np.zeros((2, len(images), 1)))

    def close(self) -> None:
        self.networks = {}


def test_a_full_memory_is_told_clearly_and_emptied(made: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[FusedNetwork]] = []
    left: list[int] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: left.append(sum(n() is not None for n in alive)))

    def make(networks: Mapping[int, FusedNetwork], sizes: tuple[int, ...], rest: Callable[[float], None]) -> Passes:
        alive.extend(weakref.ref(network) for network in networks.values())
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of …")

    with pytest.raises(EngineError) as error:
        CudaEngine(made, ON_A_GPU, make_passes=make)
    assert str(error.value) == "the GPU's memory is full: CUDA out of memory"
    assert len(alive) == len(fused.BUDGETS)
    assert left == [0]  # what the GPU is told to give back is nobody's any more
    assert all(network() is None for network in alive)  # while the error is still there


def test_a_pass_that_fails_is_an_engines_error(made: Bundle) -> None:
    passes: list[Made] = []

    def make(*arguments: Any) -> Made:
        passes.append(Made(*arguments))
        return passes[0]

    engine = CudaEngine(made, ON_A_GPU, make_passes=make)
    passes[0].error = RuntimeError("CUDA error: an illegal memory access was encountered\nFor debugging consider …")
    with pytest.raises(EngineError, match=r"^PyTorch: CUDA error: an illegal memory access was encountered$"):
        engine.run(images(1), 1)
    passes[0].error = torch.OutOfMemoryError("HIP or CUDA out of memory. Tried")
    with pytest.raises(EngineError, match="memory is full"):
        engine.run(images(1), 1)


def test_one_that_fails_while_it_is_timed_is_closed(made: Bundle) -> None:
    passes: list[Made] = []

    def make(*arguments: Any) -> Made:
        passes.append(Made(*arguments))
        passes[0].error = RuntimeError("broken")
        return passes[0]

    with pytest.raises(EngineError, match="broken"):
        CudaEngine(made, ON_A_GPU, make_passes=make)
    assert passes[0].networks == {}


def test_a_closed_engine_holds_no_network(made: Bundle) -> None:
    alive: list[weakref.ref[FusedNetwork]] = []

    def make(networks: Mapping[int, FusedNetwork], *rest: Any) -> Passes:
        alive.extend(weakref.ref(network) for network in networks.values())
        return DirectPasses(networks, *rest)

    engine = CudaEngine(made, EngineOptions(batch_sizes=(1,), device="cuda"), make_passes=make)
    engine.close()
    assert all(network() is None for network in alive)
    with pytest.raises(ValueError, match="no budget"):
        engine.run(images(1), 1)


# --- Bundles that do not hold together -------------------------------------------------------------------------------


def test_an_architecture_that_nobody_knows_is_refused(repository: Path) -> None:
    with pytest.raises(BundleError, match="'tiny'"):
        open_engine(bundle.load(repository / "tiny" / "1"), ON_A_GPU)


def test_a_network_that_is_not_the_manifests_is_refused(made: Bundle, tmp_path: Path) -> None:
    first, *others = made.manifest.layers
    for change in (
        {"layers": (first.model_copy(update={"neurons": first.neurons + 1}), *others)},
        {"classes": (*made.manifest.classes, "more"), "connections": made.manifest.connections[1:]},
    ):
        wrong = Bundle(made.path, made.manifest.model_copy(update=change))
        with pytest.raises(BundleError, match="not the one that the manifest describes"):
            open_engine(wrong, ON_A_GPU)


def test_pictures_of_another_kind_are_refused(made: Bundle) -> None:
    small = made.manifest.input.model_copy(update={"channels": 3})
    with pytest.raises(BundleError, match="cannot be run"):
        open_engine(Bundle(made.path, made.manifest.model_copy(update={"input": small})), ON_A_GPU)


def test_weights_that_were_changed_are_refused(tmp_path: Path) -> None:
    made = fused.write(tmp_path / "model" / "1")
    path = made.path / bundle.WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match="its sha256"):
        open_engine(made, ON_A_GPU)
