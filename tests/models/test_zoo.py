"""The bundled models: their exported graphs against their PyTorch networks, and their cards against the test images."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import Tensor, nn

from models import bundle as bundles
from models import evaluation
from models.bundle import ZOO, Bundle, Engine
from models.data import LabelledImages, load
from models.neuron import Neuron
from service.engines import open_engine

MODELS = sorted(path.name for path in ZOO.iterdir() if path.is_dir())
TOLERANCE_IMAGES = 2


# The one whose budgets differ most; the others are among the long tests.
_QUICK = ("numbers",)


@pytest.fixture(scope="module", params=[pytest.param(m, marks=() if m in _QUICK else pytest.mark.long) for m in MODELS])
def served(request: pytest.FixtureRequest) -> Iterator[tuple[Bundle, Engine]]:
    bundle = bundles.load(ZOO / request.param / "1")
    with closing(open_engine(bundle)) as engine:
        yield bundle, engine


@pytest.fixture(scope="module")
def test_images(served: tuple[Bundle, Engine]) -> LabelledImages:
    """A thousand of the images that the card is about, or all where there are no more."""
    whole = _all_of(served[0])
    every = len(whole) // 1000
    return LabelledImages(whole.images[::every], whole.labels[::every])


def _all_of(bundle: Bundle) -> LabelledImages:
    (name,) = {budget.accuracy.dataset for budget in bundle.manifest.budgets if budget.accuracy}
    return load(name, "test")


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


@pytest.mark.parametrize("names", [("mnist-full", "mnist"), ("numbers", "numbers-factored")])
def test_each_task_has_a_full_and_a_factored_model(names: tuple[str, str]) -> None:
    full, factored = (bundles.load(ZOO / name / "1").manifest for name in names)
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
        same = outputs.logits.argmax(1) == exact.argmax(1)
        sure = softmax(exact / budget.temperature, axis=1).max(1) > 0.8
        assert sure.mean() > 0.6
        assert same[sure].mean() >= 0.995
        # A seventh of the numbers are hard to read for either, and fall to one side or the other with the weights'
        # rounding, as often to the right one: the card's two accuracies are compared below.
        assert same.mean() >= (0.9 if bundle.manifest.name.startswith("numbers") else 0.995)
        assert outputs.spikes.sum() == pytest.approx(spikes.sum(), rel=0.005)
        # The card's figures, as another machine may round them, or another sample of the images gives them.
        assert budget.accuracy is not None
        claimed, samples = budget.accuracy.served, budget.accuracy.samples
        assert abs(claimed - budget.accuracy.float32) <= 0.003
        whole = samples == len(test_images)
        right = (outputs.logits.argmax(1) == test_images.labels).sum()
        tolerance = TOLERANCE_IMAGES if whole else 4 * np.sqrt(len(test_images) * claimed * (1 - claimed))
        assert abs(right - claimed * len(test_images)) <= tolerance
        assert budget.mean_spikes == pytest.approx(outputs.spikes.mean(0), rel=0.005 if whole else 0.02)
        assert budget.mean_synops == pytest.approx(outputs.synops.mean(0), rel=0.005 if whole else 0.02)
        counter.counts.clear()


@pytest.mark.long
@pytest.mark.parametrize("name", MODELS)
def test_a_card_holds_on_all_of_its_test_images(name: str) -> None:
    bundle = bundles.load(ZOO / name / "1")
    images = _all_of(bundle)
    with closing(open_engine(bundle)) as engine:
        for budget in bundle.manifest.budgets:
            assert budget.accuracy is not None
            answers = evaluation.served(engine, images.images, budget.timesteps)
            assert budget.accuracy.samples == len(images)
            assert abs(answers.correct(images.labels) - budget.accuracy.served * len(images)) <= TOLERANCE_IMAGES
            assert budget.mean_spikes == pytest.approx(answers.mean_spikes, rel=0.005)


@pytest.mark.long
@pytest.mark.parametrize("name", ["numbers", "numbers-factored"])
def test_on_numbers_the_largest_budget_is_four_standard_errors_better_than_the_smallest(name: str) -> None:
    """On the same pictures: the standard error is that of the difference between their answers."""
    bundle = bundles.load(ZOO / name / "1")
    images = _all_of(bundle)
    smallest, *_, largest = bundle.manifest.timesteps
    with closing(open_engine(bundle)) as engine:
        right = [evaluation.served(engine, images.images, t).right(images.labels) for t in (smallest, largest)]
    differences = right[1].astype(float) - right[0]
    assert differences.mean() >= 4 * differences.std(ddof=1) / np.sqrt(len(images))


def test_the_largest_budget_is_good_and_no_worse_than_smaller_ones(served: tuple[Bundle, Engine]) -> None:
    accuracies = [budget.accuracy for budget in served[0].manifest.budgets]
    rates = [accuracy.served for accuracy in accuracies if accuracy is not None]
    assert len(rates) == len(accuracies)
    assert rates[-1] >= (0.86 if served[0].manifest.name.startswith("numbers") else 0.985)
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
