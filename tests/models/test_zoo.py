"""The bundled models: their exported graphs against their PyTorch networks, and their cards against the test images."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models import bundle as bundles
from models import evaluation
from models.bundle import ZOO, Bundle, Engine
from models.data import LabelledImages, load
from models.neuron import Neuron
from service.engines import open_engine

MODELS = sorted(path.name for path in ZOO.iterdir() if path.is_dir())
TOLERANCE_IMAGES = 2


@pytest.fixture(scope="module")
def test_images() -> LabelledImages:
    return load("mnist", "test")


@pytest.fixture(scope="module", params=MODELS)
def served(request: pytest.FixtureRequest) -> Iterator[tuple[Bundle, Engine]]:
    bundle = bundles.load(ZOO / request.param / "1")
    with closing(open_engine(bundle)) as engine:
        yield bundle, engine


class Counter:
    """Unit spikes of each layer and image, recorded as a PyTorch network runs."""

    def __init__(self, network: nn.Module) -> None:
        self.counts: list[Tensor] = []
        for module in network.modules():
            if isinstance(module, Neuron):
                module.register_forward_hook(self._record)

    def _record(self, neuron: Neuron, _inputs: object, output: Tensor) -> None:
        steps = 1 if neuron.tgim == "factored" else neuron.timesteps
        scale = neuron.timesteps if neuron.tgim == "factored" else 1
        spikes = (output / neuron.threshold * scale).round()
        self.counts.append(spikes.view(steps, -1, *output.shape[1:]).sum(0).flatten(1).sum(1))


def test_both_models_are_there() -> None:
    assert MODELS == ["mnist", "mnist-full"]
    full, factored = (bundles.load(ZOO / name / "1").manifest for name in ("mnist-full", "mnist"))
    assert (full.tgim, full.timesteps) == ("full", (1, 2, 4))
    assert (factored.tgim, factored.timesteps) == ("factored", (1, 2, 4, 8))
    assert full.levels == factored.levels == 2


def test_exported_graphs_agree_with_the_network_and_the_card(
    served: tuple[Bundle, Engine], test_images: LabelledImages
) -> None:
    bundle, engine = served
    network = evaluation.network_of(bundle)
    for budget in bundle.manifest.budgets:
        counter = Counter(network)
        with torch.inference_mode():
            exact = network(torch.from_numpy(test_images.images), budget.timesteps).numpy()
        spikes = torch.stack(counter.counts, 1).numpy()
        outputs = engine.run(test_images.images, budget.timesteps)
        assert (outputs.logits.argmax(1) == exact.argmax(1)).mean() >= 0.995
        assert outputs.spikes.sum() == pytest.approx(spikes.sum(), rel=0.005)
        # The card's figures, as another machine may round them.
        assert budget.accuracy is not None
        right = (outputs.logits.argmax(1) == test_images.labels).sum()
        assert abs(right - budget.accuracy.served * len(test_images)) <= TOLERANCE_IMAGES
        assert budget.mean_spikes == pytest.approx(outputs.spikes.mean(0), rel=0.005)
        assert budget.mean_synops == pytest.approx(outputs.synops.mean(0), rel=0.005)
        counter.counts.clear()


def test_the_largest_budget_is_good_and_no_worse_than_smaller_ones(served: tuple[Bundle, Engine]) -> None:
    accuracies = [budget.accuracy for budget in served[0].manifest.budgets]
    rates = [accuracy.served for accuracy in accuracies if accuracy is not None]
    assert len(rates) == len(accuracies)
    assert rates[-1] >= 0.985
    standard_error = np.sqrt(rates[-1] * (1 - rates[-1]) / 1000)
    assert all(larger >= smaller - standard_error for smaller, larger in itertools.pairwise(rates))


def test_more_time_steps_cost_more_spikes(served: tuple[Bundle, Engine]) -> None:
    totals = [sum(budget.mean_spikes or ()) for budget in served[0].manifest.budgets]
    assert totals == sorted(totals)
    assert totals[0] > 0


def test_an_image_answers_alike_alone_and_in_any_batch(
    served: tuple[Bundle, Engine], test_images: LabelledImages
) -> None:
    bundle, engine = served
    images = test_images.images[::77]  # 13 images: no bucket's size
    for timesteps in bundle.manifest.timesteps:
        together = engine.run(images, timesteps)
        alone = [engine.run(images[i : i + 1], timesteps) for i in range(len(images))]
        assert together.logits.argmax(1).tolist() == [int(o.logits.argmax()) for o in alone]
        # Kernels for another batch size may round a current differently, and a membrane that close flips.
        np.testing.assert_allclose(together.logits, np.concatenate([o.logits for o in alone]), atol=0.1)
        np.testing.assert_allclose(together.spikes, np.concatenate([o.spikes for o in alone]), rtol=0.002, atol=2)
        np.testing.assert_allclose(together.synops, np.concatenate([o.synops for o in alone]), rtol=0.002, atol=600)


def test_padding_changes_no_bit_of_an_answer(served: tuple[Bundle, Engine], test_images: LabelledImages) -> None:
    bundle, engine = served
    for timesteps in bundle.manifest.timesteps:
        for size in engine.batch_sizes[1:]:
            full = engine.run(test_images.images[:size], timesteps)
            padded = engine.run(test_images.images[: size - 1], timesteps)
            np.testing.assert_array_equal(padded.logits, full.logits[: size - 1])
            np.testing.assert_array_equal(padded.spikes, full.spikes[: size - 1])


def test_bundles_are_data_only() -> None:
    for name in MODELS:
        files = {path.name for path in (ZOO / name / "1").iterdir()}
        manifest = bundles.load(Path(ZOO / name / "1")).manifest
        assert files == {bundles.MANIFEST, *manifest.files}
        assert {Path(file).suffix for file in files} == {".json", ".onnx", ".safetensors"}
