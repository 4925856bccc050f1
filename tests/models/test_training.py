"""Training: resumable to the last bit, deterministic, and each part of the loop against its definition."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data import LabelledImages, dataset, load
from models.networks import Network
from models.networks.base import Norm
from models.training import augment, checkpoint, loop, network_file
from models.training.recipes import RECIPES, Recipe, recipe
from models.training.sources import Distorted, Source
from tests.models import examples

TINY = dataclasses.replace(
    recipe("mnist"), name="tiny", parameters={"widths": [[4], [6]]}, budgets=(1, 2, 3, 4), epochs=3, batch=16
)
TINY_FULL = dataclasses.replace(TINY, name="tiny-full", tgim="full")


def some(split: Any, count: int) -> LabelledImages:
    """Every n-th image, so that all classes are there."""
    whole = load("mnist", split)
    step = len(whole) // count
    return LabelledImages(whole.images[::step][:count], whole.labels[::step][:count])


@pytest.fixture(scope="module")
def pictures() -> LabelledImages:
    return some("train", 40)


@pytest.fixture(scope="module")
def training(pictures: LabelledImages) -> Source:
    return Distorted(pictures)


@pytest.fixture(scope="module")
def validation() -> LabelledImages:
    return some("validation", 20)


def same(a: Network, b: Network) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


# --- The run as a whole ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", [TINY, TINY_FULL], ids=lambda r: r.name)
def test_a_resumed_run_equals_an_unbroken_one_to_the_last_bit(
    chosen: Recipe, training: Source, validation: LabelledImages, tmp_path: Path
) -> None:
    unbroken: list[loop.Epoch] = []
    whole = loop.train(chosen, training, validation, tmp_path / "whole", on_epoch=unbroken.append)
    resumed: list[loop.Epoch] = []
    for epochs in (1, 2, None):
        torch.manual_seed(12345)  # whatever else used the global generator
        torch.rand(7)
        parts = loop.train(chosen, training, validation, tmp_path / "parts", epochs=epochs, on_epoch=resumed.append)
    assert resumed == unbroken
    assert [epoch.number for epoch in unbroken] == [1, 2, 3]
    assert same(parts, whole)
    left, right = (checkpoint.load(tmp_path / name / checkpoint.FILE) for name in ("whole", "parts"))
    assert (left.recipe, left.epoch, left.best_loss) == (right.recipe, right.epoch, right.best_loss)
    for group in ("network", "best", "optimizer"):
        first, second = getattr(left, group), getattr(right, group)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_training_learns_and_keeps_the_epoch_of_the_lowest_validation_loss(
    training: Source, pictures: LabelledImages, tmp_path: Path
) -> None:
    """Validation labels that turn wrong make later epochs worse: an early one must be kept."""
    epochs: list[loop.Epoch] = []
    wrong = LabelledImages(pictures.images, (pictures.labels + 1) % 10)
    chosen = dataclasses.replace(TINY, epochs=8, learning_rate=2e-2, batch=8)
    network = loop.train(chosen, training, wrong, tmp_path / "whole", on_epoch=epochs.append)
    losses = [epoch.validation_loss for epoch in epochs]
    best = losses.index(min(losses))
    assert best < len(losses) - 1
    assert epochs[-1].loss < epochs[0].loss
    assert [epoch.kept for epoch in epochs] == [loss == min(losses[: i + 1]) for i, loss in enumerate(losses)]
    saved = checkpoint.load(tmp_path / "whole" / checkpoint.FILE)
    assert saved.best_loss == min(losses)
    state = network.state_dict()
    assert not network.training
    for name, value in saved.best.items():
        if "running" not in name and "num_batches" not in name:  # estimated anew
            assert torch.equal(state[name], value)
    assert any(not torch.equal(saved.network[name], saved.best[name]) for name in saved.best)
    # The kept state is the one whose loss was reported, not an alias of what training went on to change.
    again = chosen.build()
    again.load_state_dict(dict(saved.best))
    assert loop.validate(again, wrong)[0] == min(losses)
    # A run that is broken off after its best epoch still knows that epoch's network.
    for stop in (7, 8):
        resumed = loop.train(chosen, training, wrong, tmp_path / "parts", epochs=stop)
    assert best < 7
    assert same(resumed, network)


def test_a_checkpoint_of_another_recipe_is_refused(
    training: Source, validation: LabelledImages, tmp_path: Path
) -> None:
    loop.train(TINY, training, validation, tmp_path, epochs=1)
    before = (tmp_path / checkpoint.FILE).read_bytes()
    with pytest.raises(ValueError, match="is of another recipe than 'tiny-full' is now"):
        loop.train(TINY_FULL, training, validation, tmp_path)
    assert (tmp_path / checkpoint.FILE).read_bytes() == before


def test_a_finished_run_is_not_trained_further(training: Source, validation: LabelledImages, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    network = loop.train(TINY, training, validation, tmp_path, on_step=lambda step, of: steps.append((step, of)))
    assert steps == [(step, 9) for step in range(1, 10)]  # 3 batches of 40 images, 3 epochs
    again = loop.train(TINY, training, validation, tmp_path, on_step=lambda step, of: pytest.fail("a step"))
    assert same(network, again)


def test_the_last_cut_short_checkpoint_is_reported(
    training: Source, validation: LabelledImages, tmp_path: Path
) -> None:
    path = tmp_path / checkpoint.FILE
    loop.train(TINY, training, validation, tmp_path, epochs=1)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a training checkpoint"):
        loop.train(TINY, training, validation, tmp_path)


def test_a_write_that_fails_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run" / checkpoint.FILE
    first, best, moments = {"a": torch.ones(2)}, {"a": torch.zeros(2)}, {"0.step": torch.tensor(4.0)}
    state = checkpoint.Checkpoint("tiny", 3, 0.5, network=first, best=best, optimizer=moments)
    checkpoint.save(path, state)

    def fail(tensors: object, file: Path, metadata: object) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(path, dataclasses.replace(state, epoch=4))
    monkeypatch.undo()
    read = checkpoint.load(path)
    assert (read.recipe, read.epoch, read.best_loss) == ("tiny", 3, 0.5)
    assert read.best["a"].tolist() == [0, 0]
    assert read.optimizer["0.step"].item() == 4
    checkpoint.save(path, dataclasses.replace(state, epoch=4))
    assert checkpoint.load(path).epoch == 4
    assert [file.name for file in path.parent.iterdir()] == [checkpoint.FILE]


# --- Its parts -------------------------------------------------------------------------------------------------------


def test_the_learning_rate_rises_linearly_and_falls_by_a_cosine_to_zero() -> None:
    chosen = dataclasses.replace(TINY, learning_rate=0.5, warmup=0.2)
    rates = [loop._learning_rate(chosen, step, 100) for step in range(100)]
    assert rates[:20] == pytest.approx([0.5 * (step + 1) / 20 for step in range(20)])
    expected = [0.25 * (1 + math.cos(math.pi * (step - 20) / 80)) for step in range(20, 100)]
    assert rates[20:] == pytest.approx(expected)
    assert max(rates) == rates[19] == rates[20] == 0.5
    assert rates[60] == pytest.approx(0.25)
    assert 0 < rates[-1] < 0.001
    assert loop._learning_rate(chosen, 0, 1) == 0.5


def test_each_step_uses_the_schedules_rate_over_the_whole_recipe(
    training: Source, validation: LabelledImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[set[float]] = []
    original = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW, *arguments: Any) -> Any:
        rates.append({group["lr"] for group in self.param_groups})
        return original(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    for epochs in (1, 3):
        loop.train(TINY, training, validation, tmp_path, epochs=epochs)
    assert rates == [{loop._learning_rate(TINY, step, 9)} for step in range(9)]


def test_only_matrices_and_kernels_decay() -> None:
    network = TINY_FULL.build()
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    decays, rest = ({names[id(p)] for p in g["params"]} for g in loop._optimizer(network, TINY_FULL).param_groups)
    assert decays == {name for name in names.values() if ".conv.weight" in name or ".linear.weight" in name}
    assert rest == {name for name in names.values() if name not in decays and "initial_membrane" not in name}
    assert [g["weight_decay"] for g in loop._optimizer(network, TINY_FULL).param_groups] == [TINY.weight_decay, 0]


def test_each_step_runs_the_largest_the_smallest_and_one_other_budget(
    training: Source, validation: LabelledImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    original = Network.forward

    def forward(self: Network, images: Tensor, timesteps: int | None = None) -> Tensor:
        if self.training and timesteps is not None:
            seen.append(timesteps)
        return original(self, images, timesteps)

    monkeypatch.setattr(Network, "forward", forward)
    chosen = dataclasses.replace(TINY, batch=4, epochs=2)
    loop.train(chosen, training, validation, tmp_path)
    steps = [seen[i : i + 3] for i in range(0, len(seen), 3)]
    assert len(steps) == 20
    assert {(largest, smallest) for largest, smallest, _ in steps} == {(4, 1)}
    assert {other for _, _, other in steps} == {2, 3}


@pytest.mark.parametrize("budgets", [(3,), (1, 3), (1, 2, 3)])
def test_a_step_sums_the_gradients_of_cross_entropy_and_of_distillation_from_the_largest(
    budgets: tuple[int, ...], pictures: LabelledImages
) -> None:
    chosen = dataclasses.replace(TINY, budgets=budgets, distillation=0.7)
    images, labels = torch.from_numpy(pictures.images[:8]), torch.from_numpy(pictures.labels[:8])
    torch.manual_seed(0)
    network = chosen.build().train()
    value = loop._step(network, images, labels, chosen, torch.Generator().manual_seed(0))
    gradients = {name: p.grad for name, p in network.named_parameters()}

    torch.manual_seed(0)
    again = chosen.build().train()
    logits = {t: again(images, t) for t in budgets}
    teacher = logits[max(budgets)].detach().softmax(1)
    total = torch.zeros(())
    for t in budgets:
        scores = logits[t].log_softmax(1)
        total = total - scores[torch.arange(8), labels].mean()
        if t != max(budgets):
            total = total + 0.7 * (teacher * (teacher.log() - scores)).sum(1).mean()
    total.backward()
    assert value == pytest.approx(total.item() / len(budgets), rel=1e-5)
    for name, parameter in again.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_validation_is_the_mean_loss_and_each_budgets_accuracy_in_evaluation_mode(
    validation: LabelledImages,
) -> None:
    network = untrained()
    images, labels = torch.from_numpy(validation.images), torch.from_numpy(validation.labels)
    loss, accuracy = loop.validate(network.train(), validation, batch=7)
    assert not network.training
    losses = []
    for t in TINY.budgets:
        with torch.no_grad():
            logits = network(images, t)
        losses.append(functional.cross_entropy(logits, labels).item())
        assert accuracy[t] == (logits.argmax(1) == labels).sum().item() / 20
    assert loss == pytest.approx(sum(losses) / 4, rel=1e-5)
    assert len(accuracy) == 4


def untrained() -> Network:
    torch.manual_seed(3)
    return TINY.build()


@pytest.mark.parametrize("architecture", ["vgg", "resnet"])
def test_norms_are_set_to_the_average_over_the_batches_and_forget_what_was(architecture: str) -> None:
    network = examples.network(architecture, 2, "full")
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.fill_(1e3)
            module.running_var.fill_(1e3)
    inputs: dict[tuple[str, int], list[Tensor]] = {}

    def record(name: str, module: Norm, given: tuple[Tensor]) -> None:
        inputs.setdefault((name, module.timesteps), []).append(given[0])

    norms = {name: module for name, module in network.named_modules() if isinstance(module, Norm)}
    hooks = [
        norm.register_forward_pre_hook(lambda module, given, name=name: record(name, module, given))
        for name, norm in norms.items()
    ]
    parameters = {name: p.clone() for name, p in network.named_parameters()}
    loop.reestimate_norms(network, examples.images(10, examples.ARCHITECTURES[architecture][1]), batch=4)
    for hook in hooks:
        hook.remove()

    assert not network.training
    assert all(torch.equal(p, parameters[name]) for name, p in network.named_parameters())
    assert len(inputs) == len(norms) * len(examples.BUDGETS)
    for (name, timesteps), batches in inputs.items():
        assert len(batches) == 3
        channels = [batch.transpose(0, 1).flatten(1).double() for batch in batches]
        norm = norms[name].per_budget[str(timesteps)]
        assert isinstance(norm, nn.BatchNorm1d)
        assert norm.momentum == 0.1
        mean, variance = (torch.stack([f(c) for c in channels]).mean(0) for f in (_mean, _variance))
        torch.testing.assert_close(norm.running_mean.double(), mean, rtol=1e-4, atol=1e-5)  # type: ignore[union-attr]
        torch.testing.assert_close(norm.running_var.double(), variance, rtol=1e-4, atol=1e-5)  # type: ignore[union-attr]


def _mean(channels: Tensor) -> Tensor:
    return channels.mean(1)


def _variance(channels: Tensor) -> Tensor:
    return channels.var(1, unbiased=True)


# --- Augmentation ----------------------------------------------------------------------------------------------------


def distorted(images: Tensor, seed: int) -> Tensor:
    return augment.distort(images, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(6, 1, 28, 28), (3, 3, 17, 23)])
def test_distortion_keeps_shape_type_and_range_and_leaves_its_input_alone(shape: Sequence[int]) -> None:
    images = torch.rand(tuple(shape), generator=torch.Generator().manual_seed(0))
    before = images.clone()
    result = distorted(images, 1)
    assert result.shape == images.shape
    assert result.dtype == torch.float32
    assert 0 <= result.min() < result.max() <= 1
    assert torch.equal(images, before)


def test_distortion_is_a_function_of_the_generator_alone(pictures: LabelledImages) -> None:
    images = torch.from_numpy(pictures.images)
    torch.manual_seed(1)
    first = distorted(images, 7)
    torch.manual_seed(2)
    assert torch.equal(distorted(images, 7), first)
    assert not torch.equal(distorted(images, 8), first)


def test_each_image_is_distorted_in_its_own_way_and_stays_what_it_was(pictures: LabelledImages) -> None:
    image = torch.from_numpy(pictures.images[:1])
    copies = distorted(image.expand(50, -1, -1, -1).contiguous(), 0)
    assert len({copy.numpy().tobytes() for copy in copies}) == 50
    # The mean of many distorted copies is a blurred original, not another digit or a shifted one.
    mean = copies.mean(0)[0]
    others = torch.from_numpy(pictures.images[1:])[:, 0]
    distances = ((others - mean) ** 2).sum((1, 2))
    assert ((image[0, 0] - mean) ** 2).sum() < distances.min()


# --- Recipes and their results ---------------------------------------------------------------------------------------


def test_the_recipes_build_what_the_bundled_models_are() -> None:
    assert (RECIPES["mnist"].budgets, RECIPES["mnist"].tgim) == ((1, 2, 4, 8), "factored")
    assert (RECIPES["mnist-full"].budgets, RECIPES["mnist-full"].tgim) == ((1, 2, 4), "full")
    assert RECIPES["mnist"].parameters == RECIPES["mnist-full"].parameters
    for name, chosen in RECIPES.items():
        assert chosen.name == name
        network = chosen.build().eval()
        assert network.spiking.levels == 2
        with torch.no_grad():
            for timesteps in chosen.budgets:
                data = dataset(chosen.dataset)
                assert network(torch.zeros(1, *data.input.shape), timesteps).shape == (1, len(data.classes))
    with pytest.raises(ValueError, match="unknown recipe 'cifar'; there are mnist, mnist-full"):
        recipe("cifar")


def test_a_trained_network_is_read_back_with_its_recipe(tmp_path: Path) -> None:
    path = tmp_path / "run" / network_file.FILE
    torch.manual_seed(5)
    network = recipe("mnist-full").build()
    network_file.save(path, "mnist-full", network)
    chosen, again = network_file.load(path)
    assert chosen == recipe("mnist-full")
    assert same(network, again)
    assert not again.training


@pytest.mark.parametrize("defect", ["missing", "cut", "another recipe's"])
def test_a_file_that_is_no_trained_network_is_refused(tmp_path: Path, defect: str) -> None:
    path = tmp_path / network_file.FILE
    if defect != "missing":
        network_file.save(path, "mnist" if defect == "another recipe's" else "mnist-full", recipe("mnist-full").build())
    if defect == "cut":
        path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match="not a trained network"):
        network_file.load(path)


def test_a_recipes_arguments_say_what_the_network_is_made_of() -> None:
    arguments = TINY.arguments()
    assert arguments["widths"] == [[4], [6]]
    assert (arguments["channels"], arguments["classes"], arguments["levels"]) == (1, 10, 2)
    assert (arguments["mean"], arguments["std"]) == ([0.13], [0.31])
    assert np.array_equal(arguments["budgets"], [1, 2, 3, 4])
