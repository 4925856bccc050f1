"""Where training pictures come from: drawings distorted, and numbers composed, anew in every epoch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models.data import LabelledImages, load, numbers
from models.training import loop
from models.training.recipes import recipe
from models.training.sources import Composed, Distorted, source

TINY = dataclasses.replace(recipe("numbers"), name="tiny", parameters={"widths": [[4], [6]]}, epochs=2, batch=8)


def epoch(of: Composed | Distorted, seed: int, size: int = 8) -> tuple[Tensor, Tensor]:
    batches = list(of.batches(size, torch.Generator().manual_seed(seed)))
    return torch.cat([images for images, _ in batches]), torch.cat([labels for _, labels in batches])


@pytest.fixture(scope="module")
def validation() -> LabelledImages:
    return load("numbers", "validation").spread(20)


def test_an_epoch_of_numbers_has_the_length_that_is_asked_for() -> None:
    composed = Composed(19)
    sizes = [len(labels) for _, labels in composed.batches(8, torch.Generator())]
    assert sizes == [8, 8, 3]
    assert len(composed) == 19


def test_one_generator_gives_one_epoch_of_numbers_and_another_one_another() -> None:
    composed = Composed(16)
    (images, labels), (again, same), (other, others) = (epoch(composed, seed) for seed in (1, 1, 2))
    assert torch.equal(images, again)
    assert torch.equal(labels, same)
    assert not torch.equal(images, other)
    assert not torch.equal(labels, others)


def test_numbers_are_composed_of_training_digits_that_another_hand_has_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    real = numbers.compose

    def spy(digits, labels, count, generator, rewrite):  # type: ignore[no-untyped-def]
        seen.append((digits, rewrite(digits[:5])))
        return real(digits, labels, count, generator, rewrite)

    monkeypatch.setattr(numbers, "compose", spy)
    epoch(Composed(16), 1)
    (digits, rewritten), (_, anew) = seen
    assert np.abs(rewritten - anew).max() > 0.1  # never twice by the same hand
    np.testing.assert_array_equal(digits, numbers.digits_of("train")[0])
    assert rewritten.shape == (5, 28, 28)
    assert np.abs(rewritten - digits[:5]).max() > 0.1
    # The same digit still: ink stays about where it was.
    assert all(np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.2 for a, b in zip(rewritten, digits[:5], strict=True))


def test_norms_take_their_statistics_from_pictures_that_come_without_distortion() -> None:
    assert torch.equal(Composed(8).plain(), torch.from_numpy(load("numbers", "train").images))


def test_a_limit_takes_drawings_from_all_over_the_set() -> None:
    few = source("mnist", 70)
    assert isinstance(few, Distorted)
    assert len(few) == 70
    assert epoch(few, 1)[1].bincount().tolist() == [7] * 10
    assert len(source("mnist")) == 3500
    assert len(source("numbers", 12)) == 12


def test_a_resumed_run_on_numbers_equals_an_unbroken_one(validation: LabelledImages, tmp_path: Path) -> None:
    whole = loop.train(TINY, Composed(16), validation, tmp_path / "whole")
    loop.train(TINY, Composed(16), validation, tmp_path / "parts", epochs=1)
    parts = loop.train(TINY, Composed(16), validation, tmp_path / "parts")
    left, right = whole.state_dict(), parts.state_dict()
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_training_starts_from_the_network_it_is_given(validation: LabelledImages, tmp_path: Path) -> None:
    torch.manual_seed(9)
    given = TINY.build()
    before = {name: value.clone() for name, value in given.state_dict().items()}
    still = dataclasses.replace(TINY, learning_rate=0.0)
    trained = loop.train(still, Composed(8), validation, tmp_path, network=given)
    weights = [name for name in before if name.endswith(("conv.weight", "linear.weight"))]
    assert weights
    assert all(torch.equal(trained.state_dict()[name], before[name]) for name in weights)


def test_sgd_has_momentum_and_decays_weights_alone() -> None:
    chosen = dataclasses.replace(TINY, optimizer="sgd", learning_rate=0.5, weight_decay=0.25)
    network = chosen.build()
    optimizer = loop._optimizer(network, chosen)
    weight = network.get_parameter("body.stage1.unit1.conv.weight")
    scale = network.get_parameter("body.stage1.unit1.norm.per_budget.1.weight")
    expected, velocity = weight.detach().clone(), torch.zeros_like(weight)
    for _ in range(3):
        weight.grad, scale.grad = torch.ones_like(weight), torch.zeros_like(scale)
        velocity = 0.9 * velocity + 1 + 0.25 * expected
        expected = expected - 0.5 * velocity
        optimizer.step()
    torch.testing.assert_close(weight.detach(), expected)
    assert torch.equal(scale.detach(), torch.ones_like(scale))
