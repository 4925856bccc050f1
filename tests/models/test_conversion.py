"""The quantised ReLU, conversion of ANNs, M-HT, and budgets derived from a larger one."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.conversion import as_ann, derive, freeze_mixing, to_spiking
from models.export.trace import trace
from models.networks import Network, build
from models.networks.base import ConvUnit, Head, Norm, Spiking
from models.neuron import Neuron, PerBudget, Tgim
from models.quantised import QuantisedReLU
from models.training.loop import reestimate_norms
from tests.models import examples, reference

quick = settings(max_examples=100, deadline=None)
MIXING: tuple[Tgim, ...] = ("full", "factored")
TIMESTEPS = st.integers(1, 8)


def neurons(network: Network) -> list[Neuron]:
    return [module for module in network.modules() if isinstance(module, Neuron)]


def relus(network: Network) -> list[QuantisedReLU]:
    return [module for module in network.modules() if isinstance(module, QuantisedReLU)]


def untrained(architecture: str, budgets: tuple[int, ...], levels: int = 2, tgim: Tgim = "factored") -> Network:
    parameters, _ = examples.ARCHITECTURES[architecture]
    common: dict[str, Any] = {"channels": 1, "classes": examples.CLASSES, "mean": (0.4,), "std": (0.3,)}
    shape = {**common, **parameters, "budgets": budgets, "levels": levels, "tgim": tgim}
    return build(architecture.split("-")[0], shape)


def random_ann(architecture: str, levels: int = 4, seed: int = 0) -> Network:
    """An ANN of which no parameter is where it starts: random norms, a ϑ of its own in each layer."""
    network = derive(examples.network(architecture, 2, "factored", seed), [1])
    return as_ann(network, levels, learned=True, offset=0.5)


# --- Quantised ReLU --------------------------------------------------------------------------------------------------


@quick
@given(
    levels=st.integers(1, 9),
    threshold=st.sampled_from([0.5, 0.75, 1.0, 3.0]),
    offset=st.sampled_from([0.0, 0.25, 0.5]),
    values=st.lists(st.integers(-64, 256).map(lambda n: n / 64), min_size=1, max_size=8),
)
def test_a_quantised_relu_follows_its_formula(
    levels: int, threshold: float, offset: float, values: list[float]
) -> None:
    relu = QuantisedReLU(levels, threshold, learned=False, offset=offset).double()
    positions = [Fraction(v) * levels / Fraction(threshold) + Fraction(offset) for v in values]
    # A level of thirds is no binary number: a value exactly on it may be rounded to either side.
    assume(levels & (levels - 1) == 0 or all(position.denominator > 1 for position in positions))
    expected = [float(Fraction(threshold) * min(max(math.floor(p), 0), levels) / levels) for p in positions]
    assert relu(torch.tensor(values, dtype=torch.float64)).tolist() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("offset", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("levels", [1, 4])
def test_its_gradients_are_those_of_a_straight_through_floor_within_a_clip(levels: int, offset: float) -> None:
    """By autograd: clip where the steps begin and end, then round with a slope of 1, then scale by ϑ again."""
    x = torch.linspace(-1, 3, 401, dtype=torch.float64)
    weights = torch.sin(torch.arange(401.0)).double()
    relu = QuantisedReLU(levels, 1.3, learned=False, offset=offset).double()
    relu.fixed_threshold = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    mine = x.clone().requires_grad_()
    output = relu(mine)
    (output * weights).sum().backward()

    threshold = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    theirs = x.clone().requires_grad_()
    position = torch.clamp(theirs / threshold * levels + offset, 0.5, levels + 0.5)
    rounded = (position.detach().floor() - position.detach()) + position
    expected = threshold * rounded / levels
    (expected * weights).sum().backward()

    # Where it is clipped, autograd's ϑ·const/levels has the derivative const/levels: 0 below and 1 above.
    for a, b in ((output, expected), (mine.grad, theirs.grad), (relu.fixed_threshold.grad, threshold.grad)):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert mine.grad is not None
    assert 0 < int((mine.grad == 0).sum()) < 401


@pytest.mark.parametrize(("x", "slope"), [(-1e-9, 0.0), (0.0, 1.0), (0.3, 1.0), (2.0, 1.0), (2.0 + 1e-9, 0.0)])
def test_with_half_a_step_of_offset_the_slope_is_qcfs_s(x: float, slope: float) -> None:
    """1 from 0 to ϑ, as where the input is clipped to [0, ϑ] before it is rounded."""
    value = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    QuantisedReLU(4, 2.0, learned=False, offset=0.5).double()(value).backward()
    assert value.grad is not None
    assert value.grad.item() == slope


@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("levels", [2, 3])
def test_value_and_slope_are_those_of_a_neuron_at_one_time_step(levels: int, offset: float) -> None:
    current = torch.linspace(-2, 5, 701, dtype=torch.float64)[:, None]
    neuron = Neuron([1], levels, "none", threshold=0.7, initial_membrane=offset).double()
    relu = QuantisedReLU(levels, levels * 0.7, learned=False, offset=offset).double()
    results = []
    for layer in (neuron, relu):
        x = current.clone().requires_grad_()
        output = layer(x)
        output.sum().backward()
        results.append((output, x.grad))
    for a, b in zip(*results, strict=True):
        # The points of the grid that lie on a step may be rounded to either side.
        assert ((a - b).abs() < 1e-6).double().mean() > 0.98


@pytest.mark.parametrize("start", [0.01, 1.0, 2.0, 8.0])
def test_a_learned_threshold_starts_where_it_should_and_stays_positive(start: float) -> None:
    relu = QuantisedReLU(4, start, learned=True, offset=0.5)
    assert relu.threshold.item() == pytest.approx(start, rel=1e-6)
    optimizer = torch.optim.SGD(relu.parameters(), lr=0.01)
    x = torch.linspace(0, 20, 50)
    before = start
    for _ in range(20):
        optimizer.zero_grad()
        relu(x).sum().backward()
        optimizer.step()
        assert 0 < relu.threshold.item() < before
        before = relu.threshold.item()
        assert bool(relu(x).isfinite().all())


def test_a_learned_threshold_of_usual_size_takes_the_steps_that_the_threshold_itself_would() -> None:
    relu = QuantisedReLU(4, 8.0, learned=True, offset=0.5)
    relu.threshold.backward()
    assert relu.unbounded_threshold.grad is not None
    assert relu.unbounded_threshold.grad.item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("levels", "threshold", "offset", "says"),
    [
        (0, 1.0, 0.5, "levels must be at least 1, not 0"),
        (4, 0.0, 0.5, "must be positive, not 0"),
        (4, math.inf, 0.5, "must be positive, not inf"),
        (4, math.nan, 0.5, "must be positive, not nan"),
        (4, 1.0, 1.0, "below 1, not 1"),
        (4, 1.0, -0.1, "at least 0 and below 1"),
    ],
)
def test_a_quantised_relu_out_of_range_is_refused(levels: int, threshold: float, offset: float, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        QuantisedReLU(levels, threshold, learned=True, offset=offset)


def test_a_quantised_relu_shows_its_settings() -> None:
    assert repr(QuantisedReLU(4, 2.0, learned=False, offset=0.5)) == (
        "QuantisedReLU(4, threshold=2, learned=False, offset=0.5)"
    )


# --- ANNs and their conversion ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize(("levels", "start"), [(1, 1.0), (2, 2.0), (4, 2.0)])
def test_an_ann_has_a_relu_of_the_neurons_range_for_each_neuron(levels: int, start: float, learned: bool) -> None:
    network = untrained("resnet", (1,), levels)
    names = [name for name, module in network.named_modules() if isinstance(module, Neuron)]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    ann = as_ann(network, 6, learned=learned, offset=0.5)
    assert [name for name, module in ann.named_modules() if isinstance(module, QuantisedReLU)] == names
    assert not neurons(ann)
    assert {relu.levels for relu in relus(ann)} == {6}
    assert [relu.threshold.item() for relu in relus(ann)] == pytest.approx([start] * len(names))
    learning = {name.rsplit(".", 1)[-1] for name, value in ann.named_parameters() if value.requires_grad}
    assert ("unbounded_threshold" in learning) == learned
    # The network is another one, and as it was.
    with torch.no_grad():
        for parameter in ann.parameters():
            parameter.add_(1)
    assert len(neurons(network)) == len(names)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_an_ann_s_thresholds_and_weights_learn() -> None:
    ann = random_ann("resnet").train()
    before = {name: parameter.clone() for name, parameter in ann.named_parameters()}
    optimizer = torch.optim.SGD(ann.parameters(), lr=0.01)
    nn.functional.cross_entropy(ann(examples.images(6, 7)), torch.arange(6) % examples.CLASSES).backward()
    optimizer.step()
    assert sum("unbounded_threshold" in name for name in before) == len(relus(ann)) == 7
    assert not [name for name, parameter in ann.named_parameters() if torch.equal(parameter, before[name])]


@pytest.mark.parametrize("tgim", MIXING)
@pytest.mark.parametrize("levels", [1, 2, 4])
@pytest.mark.parametrize("architecture", ["vgg", "resnet"])
def test_conversion_copies_all_there_is_and_sets_the_neurons_to_their_start(
    architecture: str, levels: int, tgim: Tgim
) -> None:
    ann = random_ann(architecture)
    network = examples.network(architecture, levels, tgim, seed=5).train()
    converted = to_spiking(ann, network)
    assert converted is network
    assert not converted.training
    state = ann.state_dict()
    for name, value in converted.state_dict().items():
        stem, _, key = name.rpartition(".")
        if "per_budget" in name:
            norm, _, rest = name.partition(".per_budget.")
            assert torch.equal(value, state[f"{norm}.per_budget.1.{rest.partition('.')[2]}"]), name
        elif "neuron" not in name:
            assert torch.equal(value, state[name]), name
        elif ".mask" in stem or ".alpha" in stem:
            assert not value.any(), name
        elif ".initial_membrane" in stem:
            assert value.item() == 0.5
        else:
            assert key == "threshold"
    for neuron, relu in zip(neurons(converted), relus(ann), strict=True):
        assert neuron.threshold.item() == pytest.approx(relu.threshold.item() / levels, rel=1e-6)
    # Budgets have values of their own: one may be trained without the others.
    norms = [module for module in converted.modules() if isinstance(module, Norm)]
    assert all(len({p.data_ptr() for b in n.per_budget.values() for p in b.parameters()}) == 8 for n in norms)


def test_conversion_brings_the_normalisation_of_images_along() -> None:
    ann = random_ann("vgg")
    network = untrained("vgg", (2,))
    network.normalise.mean.fill_(9)
    to_spiking(ann, network)
    assert torch.equal(network.normalise.mean, ann.normalise.mean)


def test_plain_conversion_is_an_integrate_and_fire_network_that_nears_its_ann_with_time() -> None:
    """What T = 1 cannot tell apart and what uneven spikes get wrong grows small with T; each budget is its own."""
    ann = random_ann("vgg", levels=64)
    converted = to_spiking(ann, untrained("vgg", (1, 64), 1, "none"))
    assert all(neuron.mixing is None and neuron.leak is None for neuron in neurons(converted))
    images = examples.images(16, 9, seed=4)
    with torch.no_grad():
        expected = ann(images)
        error = {t: float((converted(images, t) - expected).abs().mean()) for t in (1, 64)}
    assert error[64] < error[1] / 10


def test_a_conversion_can_be_exported_and_trained_further() -> None:
    converted = to_spiking(random_ann("vgg"), untrained("vgg", (2,), 2, "full"))
    graph = trace(converted, 2, (1, 9, 9))
    images = examples.images(4, 9)
    torch.testing.assert_close(
        torch.from_numpy(reference.evaluate(graph, images).logits), converted.double()(images.double(), 2).detach()
    )
    converted.train()(images.double()).sum().backward()
    assert all(neuron.mask["2"].grad is not None for neuron in neurons(converted))


@pytest.mark.parametrize(
    ("ann", "network", "says"),
    [
        ("vgg", "vgg-pooled", "modules differ: "),
        ("vgg", "resnet", "modules differ: the whole"),
    ],
)
def test_a_network_of_another_architecture_is_refused_and_left_as_it_was(ann: str, network: str, says: str) -> None:
    other = examples.network(network, 2, "full")
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(ValueError, match=says):
        to_spiking(random_ann(ann), other)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


@pytest.mark.parametrize("changed", ["stride", "width", "norm", "neuron", "missing"])
def test_any_difference_of_architecture_is_named(changed: str) -> None:
    network = untrained("vgg-pooled", (2,))
    unit = network.body.get_submodule("stage1.unit2")
    assert isinstance(unit, ConvUnit)
    if changed == "stride":
        unit.conv.stride = (2, 2)
    elif changed == "width":
        unit.conv.weight = nn.Parameter(torch.zeros(4, 4, 5, 5))
    elif changed == "norm":
        unit.norm = Norm(5, (2,))
    elif changed == "neuron":
        unit.neuron = nn.Identity()  # type: ignore[assignment]
    else:
        del unit.conv
    with pytest.raises(ValueError, match=r"1 modules differ: body\.stage1\.unit2\.(conv|norm|neuron)$"):
        to_spiking(random_ann("vgg-pooled"), network)


def test_only_a_network_of_the_budget_one_is_or_becomes_an_ann() -> None:
    network = untrained("vgg", (1, 2))
    with pytest.raises(ValueError, match="the single budget 1, not 1, 2"):
        as_ann(network, 4, learned=True, offset=0.5)
    with pytest.raises(ValueError, match="the single budget 1, not 1, 2"):
        to_spiking(network, network)
    with pytest.raises(ValueError, match=r"modules differ: body\.stage1\.unit1\.neuron"):
        to_spiking(untrained("vgg", (1,)), network)


# --- M-HT ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tgim", MIXING)
def test_frozen_mixing_is_m_ht_and_stays_so_under_training(tgim: Tgim) -> None:
    network = examples.network("vgg", 2, tgim).train()
    freeze_mixing(network)
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    weight = network.body.get_submodule("stage1.unit1.conv").get_parameter("weight")
    before = weight.detach().clone()
    for timesteps in (4, 2):
        network(examples.images(4, 9), timesteps).square().sum().backward()
    optimizer.step()
    assert not torch.equal(weight, before)
    for timesteps in (2, 4):
        network.select(timesteps)
        for neuron in neurons(network):
            assert neuron.leak is not None
            assert mixed(neuron).unique().tolist() == [1 if tgim == "factored" else 1 / timesteps]
            assert neuron.leak.item() == 1


# --- Derived budgets -------------------------------------------------------------------------------------------------


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


def mixed(neuron: Neuron) -> Tensor:
    assert neuron.mixing is not None
    mixing: Tensor = neuron.mixing.detach()
    return mixing


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
    network = untrained("vgg", (4,), 2, tgim)
    with torch.no_grad():
        for neuron in neurons(network):
            mask = neuron.mask["4"]
            mask.fill_(200)
            mask[2:] = -200
    for neuron in neurons(derive(network, [2])):
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
    again = untrained(architecture, (1, 3, 4), levels, tgim).eval()
    again.load_state_dict(derived.state_dict())  # as a network built with these budgets would have it
    images = examples.images(6, examples.ARCHITECTURES[architecture][1])
    with torch.no_grad():
        # The largest budget is kept bit for bit, and selected.
        assert torch.equal(derived(images), network(images, 4))
        answers = {t: derived(images, t) for t in (1, 3, 4)}
        for t, answer in answers.items():
            assert torch.equal(again(images, t), answer)
            torch.testing.assert_close(
                answer.double(), torch.from_numpy(reference.run(derived, t, images).logits), rtol=1e-3, atol=1e-3
            )
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
