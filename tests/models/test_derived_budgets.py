"""Budgets derived from a larger one: averaging over windows of time, T' dividing T or not."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.conversion import derive, freeze_mixing
from models.export.trace import trace
from models.networks import Network, build
from models.networks.base import Head, Norm, Spiking
from models.neuron import Neuron, PerBudget, Tgim
from models.training.loop import reestimate_norms
from tests.models import examples, reference

quick = settings(max_examples=60, deadline=None)
MIXING: tuple[Tgim, ...] = ("full", "factored")
TIMESTEPS = st.integers(1, 8)


def neurons(network: Network) -> list[Neuron]:
    return [module for module in network.modules() if isinstance(module, Neuron)]


def mixed(neuron: Neuron) -> Tensor:
    assert neuron.mixing is not None
    mixing: Tensor = neuron.mixing.detach()
    return mixing


def covered(coarse: int, fine: int) -> list[list[Fraction]]:
    """P from its definition in the docstring, as fractions."""

    def length(v: int, t: int) -> Fraction:
        start, end = max(Fraction(v, coarse), Fraction(t, fine)), min(Fraction(v + 1, coarse), Fraction(t + 1, fine))
        return max(end - start, Fraction(0))

    return [[coarse * length(v, t) for t in range(fine)] for v in range(coarse)]


def on_another_grid(values: Tensor, steps: int) -> Tensor:
    """A step function of time [T, …] averaged over the steps of another grid, by way of one that refines both."""
    fine = values.repeat_interleave(steps, 0)
    return fine.reshape(steps, len(values), *values.shape[1:]).mean(1)


@st.composite
def derived_neurons(draw: st.DrawFn, tgim: Tgim) -> tuple[Neuron, Neuron]:
    """One neuron of T steps, and the same for T' ≤ T."""
    large = draw(TIMESTEPS)
    small = draw(st.integers(1, large))
    spiking = Spiking((large,), draw(st.integers(2, 4)), tgim)
    network = Network(spiking, (0.0,), (1.0,)).double()
    neuron = spiking.neuron().double()
    network.body = neuron
    values = draw(st.lists(st.floats(-6, 6), min_size=large**2, max_size=large**2))
    mask = neuron.mask[str(large)]
    with torch.no_grad():
        mask.copy_(torch.tensor(values[: mask.numel()]).view(mask.shape))
        neuron.alpha[str(large)].fill_(draw(st.floats(-3, 3)))
        neuron.initial_membrane[str(large)].fill_(draw(st.floats(-1, 2)))
    other = derive(network, [small]).body
    assert isinstance(other, Neuron)
    return neuron, other


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-13)


@quick
@given(st.data())
def test_a_derived_mask_follows_the_formula(data: st.DataObject) -> None:
    neuron, derived = data.draw(derived_neurons("full"))
    large, small = neuron.timesteps, derived.timesteps
    weights = covered(small, large)
    opened = [[1 / (1 + math.exp(-m)) for m in row] for row in neuron.mask[str(large)].tolist()]
    steps = range(large)
    expected = [
        [sum(float(row[t] * column[j]) * opened[t][j] for t in steps for j in steps) for column in weights]
        for row in weights
    ]
    close(torch.sigmoid(derived.mask[str(small)].detach()), torch.tensor(expected, dtype=torch.float64))


@quick
@given(st.data())
def test_a_derived_mixing_is_the_mean_over_each_window_of_what_is_mixed_from_the_same_currents(
    data: st.DataObject,
) -> None:
    """For any currents on the coarse grid, T' dividing T or not; so their mean over all time is kept exactly."""
    neuron, derived = data.draw(derived_neurons("full"))
    seed = data.draw(st.integers(0, 2**32 - 1))
    currents = torch.randn(derived.timesteps, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    fine = mixed(neuron) @ on_another_grid(currents, neuron.timesteps)
    coarse = mixed(derived) @ currents
    close(coarse, on_another_grid(fine, derived.timesteps))
    close(coarse.mean(0), fine.mean(0))


@pytest.mark.parametrize("tgim", MIXING)
@quick
@given(data=st.data())
def test_derived_gains_of_a_constant_current_are_the_means_over_each_window(tgim: Tgim, data: st.DataObject) -> None:
    """The row sums of ω, or g when factored: so a layer's mean current is kept, T' dividing T or not."""
    neuron, derived = data.draw(derived_neurons(tgim))
    gains, fewer = neuron.gains.detach(), derived.gains.detach()
    assert len(fewer) == derived.timesteps
    close(fewer, on_another_grid(gains, derived.timesteps))
    close(fewer.mean(), gains.mean())


@quick
@given(st.data())
def test_the_nearest_factored_layer_of_a_derived_one_is_derived_from_the_nearest_factored_one(
    data: st.DataObject,
) -> None:
    neuron, derived = data.draw(derived_neurons("full"))
    network = Network(Spiking((neuron.timesteps,), 2, "factored"), (0.0,), (1.0,)).double()
    network.body = nearest = network.spiking.neuron().double()
    with torch.no_grad():
        nearest.mask[str(neuron.timesteps)].copy_(torch.logit(neuron.gains / 2))
    factored = derive(network, [derived.timesteps]).body
    assert isinstance(factored, Neuron)
    close(factored.gains.detach(), derived.gains.detach())


@pytest.mark.parametrize("tgim", MIXING)
@quick
@given(data=st.data())
def test_a_derived_neuron_keeps_its_leak_and_threshold_and_the_shift_of_its_initial_membrane(
    tgim: Tgim, data: st.DataObject
) -> None:
    neuron, derived = data.draw(derived_neurons(tgim))
    assert neuron.leak is not None
    assert derived.leak is not None
    assert derived.leak.item() == neuron.leak.item()
    assert derived.threshold.item() == neuron.threshold.item()
    shifts = [(n.initial_membrane[str(n.timesteps)].item() - 0.5) / n.timesteps for n in (neuron, derived)]
    assert shifts[0] == pytest.approx(shifts[1], rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("tgim", MIXING)
def test_masks_that_are_fully_on_or_off_stay_finite_and_so(tgim: Tgim) -> None:
    network = examples.network("vgg", 2, tgim)
    with torch.no_grad():
        for neuron in neurons(network):
            mask = neuron.mask["4"]
            mask.fill_(200)
            mask[2:] = -200
    for neuron in neurons(derive(network, [2, 4])):
        assert neuron.mask["4"].unique().tolist() == [-200, 200]  # the largest budget's own are not touched
        neuron.timesteps = 2
        assert bool(neuron.mask["2"].isfinite().all())
        on, off = (mixed(neuron) * (1 if tgim == "factored" else 2)).view(2, -1)
        torch.testing.assert_close(on, torch.full_like(on, 2))
        torch.testing.assert_close(off, torch.zeros_like(off))


@pytest.mark.parametrize("architecture", ["vgg", "resnet"])
@pytest.mark.parametrize(("levels", "tgim"), [(2, "full"), (4, "factored"), (1, "none")])
def test_a_derived_network_is_one_of_exactly_these_budgets(architecture: str, levels: int, tgim: Tgim) -> None:
    network = examples.network(architecture, levels, tgim)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    derived = derive(network, [3, 1, 4, 3])
    assert derived.spiking.budgets == (1, 3, 4)
    assert {m.budgets for m in derived.modules() if isinstance(m, PerBudget)} == {(1, 3, 4)}
    parameters, size = examples.ARCHITECTURES[architecture]
    common = {"channels": 1, "classes": examples.CLASSES, "mean": (0.4,), "std": (0.3,)}
    spiking = {"budgets": (1, 3, 4), "levels": levels, "tgim": tgim}
    again = build(architecture, {**common, **parameters, **spiking}).eval()
    again.load_state_dict(derived.state_dict())  # as a network built with these budgets would have it
    images = examples.images(6, size)
    with torch.no_grad():
        # The largest budget is kept bit for bit, and selected.
        for mine, theirs in zip(neurons(derived), neurons(network), strict=True):
            for name in ("mask", "alpha", "initial_membrane"):
                held, kept = getattr(mine, name), getattr(theirs, name)
                assert "4" not in kept or torch.equal(held["4"], kept["4"])
        assert torch.equal(derived(images), network(images, 4))
        answers = {t: derived(images, t) for t in (1, 3, 4)}
        for t, answer in answers.items():
            assert torch.equal(again(images, t), answer)
        derived.double()
        for t in answers:
            expected = torch.from_numpy(reference.run(derived, t, images).logits)
            torch.testing.assert_close(derived(images.double(), t), expected, rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="no budget of 2"):
        derived.select(2)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_smaller_budgets_come_from_the_largest_alone_and_norms_are_its_own() -> None:
    network = examples.network("resnet", 2, "full")
    derived, again = derive(network, [2]), derive(derive(network, [4]), [2])
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in derived.state_dict().items())
    norms = [[module for module in each.modules() if isinstance(module, Norm)] for each in (derived, network)]
    for mine, theirs in zip(*norms, strict=True):
        kept = theirs.per_budget["4"].state_dict()
        assert all(torch.equal(value, kept[name]) for name, value in mine.selected.state_dict().items())
    before = {name: value.clone() for name, value in derived.state_dict().items()}
    reestimate_norms(derived, examples.images(20, 7))
    moved = {name for name, value in derived.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert all(".per_budget.2." in name for name in moved)


def test_derived_budgets_share_no_values_but_the_weights() -> None:
    derived = derive(examples.network("resnet", 2, "full"), [1, 2])
    held: list[Tensor] = []
    for module in derived.modules():
        if isinstance(module, Neuron | Norm):
            held += [*module.parameters(), *(module.buffers() if isinstance(module, Norm) else ())]
    assert len({value.data_ptr() for value in held}) == len(held) == 7 * 2 * 3 + 8 * 2 * 5


def test_what_is_frozen_stays_frozen_in_derived_budgets() -> None:
    network = examples.network("vgg", 2, "full")
    freeze_mixing(network)
    frozen = derive(network, [1, 2])
    learning = derive(examples.network("vgg", 2, "full"), [1, 2])
    for derived, learns in ((frozen, False), (learning, True)):
        for neuron in neurons(derived):
            assert {p.requires_grad for p in (*neuron.mask.values(), *neuron.alpha.values())} == {learns}
            assert not any(p.requires_grad for p in neuron.initial_membrane.values())
    for neuron in neurons(frozen):
        assert torch.equal(mixed(neuron), torch.full((2, 2), 0.5))


def test_a_derived_network_can_be_exported() -> None:
    derived = derive(examples.network("vgg", 2, "full"), [3])
    images = examples.images(4, 9)
    expected = reference.run(derived, 3, images).logits
    answer = reference.evaluate(trace(derived, 3, (1, 9, 9)), images).logits
    torch.testing.assert_close(torch.from_numpy(answer), torch.from_numpy(expected), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("budgets", [[], [0], [5], [2, 5], [-1, 2]])
def test_budgets_above_the_network_s_own_cannot_be_derived(budgets: list[int]) -> None:
    with pytest.raises(ValueError, match="budgets from 1 to 4 can be derived"):
        derive(examples.network("vgg", 2, "full"), budgets)


def test_a_head_reads_the_derived_number_of_steps() -> None:
    derived = derive(examples.network("vgg", 2, "full"), [2])
    (head,) = (module for module in derived.modules() if isinstance(module, Head))
    x = torch.randn(2, 5, 7)
    torch.testing.assert_close(head(x.flatten(0, 1)), head.linear(x.mean(0)))
