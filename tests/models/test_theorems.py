"""The paper's theorems as property tests, in float64; where all numbers are dyadic, exactly and ties included.

Source: Hao et al., LM-HT SNN (arXiv 2402.00411). M-HT is LM-HT at its initial values, ω = 1/T and λ = 1.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.conversion import as_ann, to_spiking
from models.networks import Network, build
from models.networks.base import Norm
from models.neuron import Neuron, Tgim
from models.quantised import QuantisedReLU
from tests.models import reference

KINDS: tuple[Tgim, ...] = ("full", "factored", "none")
MIXING: tuple[Tgim, ...] = ("full", "factored")
SEEDS = st.integers(0, 2**32 - 1)
# Maps of a power of two, so that every pool divides exactly.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "vgg": {"widths": [[4], [5, 6]], "hidden": [12], "grid": [4, 4]},
    "vgg-pooled": {"widths": [[4, 4], [6]]},
    "resnet": {"widths": [4, 6], "depths": [2, 1]},
}
SIZE, CLASSES = 8, 3

many = settings(max_examples=200, deadline=None)
few = settings(max_examples=5, deadline=None)


def sixteenths(low: float, high: float) -> st.SearchStrategy[float]:
    return st.integers(round(16 * low), round(16 * high)).map(lambda n: n / 16)


# --- One neuron ------------------------------------------------------------------------------------------------------


def staircase(current: float, threshold: float, steps: int, *, offset: Fraction) -> Fraction:
    """A quantised ReLU of the range 0 to ``threshold``: so many of its steps, as the current has reached thresholds."""
    height = Fraction(threshold) / steps
    return height * sum(Fraction(current) >= (k - offset) * height for k in range(1, steps + 1))


@many
@given(
    timesteps=st.sampled_from([1, 2, 4, 8]),
    levels=st.integers(1, 5),
    tgim=st.sampled_from(KINDS),
    threshold=st.sampled_from([0.5, 0.75, 1.0, 2.0]),
    half=st.booleans(),
    currents=st.lists(sixteenths(-3, 12), min_size=6, max_size=6),
)
@example(timesteps=4, levels=2, tgim="full", threshold=1.0, half=True, currents=[0.125, 0.0625, 1.875, 9, 0, -1])
def test_theorem_m_ht_with_constant_currents_equals_the_quantiser_of_t_times_l_levels(
    timesteps: int, levels: int, tgim: Tgim, threshold: float, half: bool, currents: list[float]
) -> None:
    """Mean output = the quantiser of T·L levels and range L·θ, rounding down for v_0 = 0, half up for v_0 = θ/2."""
    neuron = Neuron([timesteps], levels, tgim, threshold=threshold, initial_membrane=0.5 if half else 0.0).double()
    rows = torch.tensor([currents] * (1 if neuron.tgim == "factored" else timesteps), dtype=torch.float64)
    with torch.no_grad():
        mean = neuron(rows).mean(0).tolist()
    offset = Fraction(1, 2) if half else Fraction(0)
    expected = [staircase(i, levels * threshold, timesteps * levels, offset=offset) for i in currents]
    assert [Fraction(x) for x in mean] == expected


def integrate_and_fire(membrane: Fraction, current: Fraction, threshold: Fraction, steps: int) -> tuple[int, Fraction]:
    """Unit spikes and membrane after so many steps of a plain integrate-and-fire neuron with soft reset."""
    spikes = 0
    for _ in range(steps):
        membrane += current
        if membrane >= threshold:
            membrane -= threshold
            spikes += 1
    return spikes, membrane


@many
@given(
    levels=st.integers(1, 6),
    threshold=st.sampled_from([0.5, 0.75, 1.0, 2.0]),
    entry=st.integers(0, 31).map(lambda n: n / 32),
    current=sixteenths(-4, 16),
)
@example(levels=2, threshold=1.0, entry=0.0, current=2.0)
def test_theorem_one_m_ht_step_equals_l_integrate_and_fire_steps_of_an_lth_of_the_current(
    levels: int, threshold: float, entry: float, current: float
) -> None:
    """For an entry membrane in [0, θ): as many spikes, and the same membrane after."""
    theta = Fraction(threshold)
    spikes, membrane = integrate_and_fire(Fraction(entry) * theta, Fraction(current) / levels, theta, levels)
    # The membrane shows in a second step: it reaches the threshold with exactly what is missing, and not with less.
    missing = float(theta - membrane)
    neuron = Neuron([2], levels, "none", threshold=threshold, initial_membrane=entry).double()
    less = 2.0**-20
    first, second = neuron(torch.tensor([[current, current], [missing, missing - less]], dtype=torch.float64)).tolist()
    assert [Fraction(x) for x in first] == [spikes * theta] * 2
    assert [Fraction(x) for x in second] == [theta, 0]


@pytest.mark.parametrize(("entry", "current", "alike"), [(0.0, 3.0, True), (-1.0, 3.0, False), (1.5, -1.0, False)])
def test_the_theorem_of_one_step_needs_an_entry_membrane_from_zero_to_the_threshold(
    entry: float, current: float, alike: bool
) -> None:
    neuron = Neuron([1], 2, "none", threshold=1.0, initial_membrane=entry)
    spikes, _ = integrate_and_fire(Fraction(entry), Fraction(current) / 2, Fraction(1), 2)
    assert (neuron(torch.tensor([current])).item() == spikes) == alike


# --- Whole networks --------------------------------------------------------------------------------------------------


def untrained(
    architecture: str, budgets: tuple[int, ...], levels: int = 2, tgim: Tgim = "factored", **changes: Any
) -> Network:
    common: dict[str, Any] = {"channels": 1, "classes": CLASSES, "mean": (0.5,), "std": (0.25,)}
    shape = {**common, **ARCHITECTURES[architecture], **changes, "budgets": budgets, "levels": levels, "tgim": tgim}
    return build(architecture.split("-")[0], shape).double().eval()


def dyadic(network: Network, seed: int) -> Network:
    """Weights and norms filled with dyadic numbers that depend on the seed and the architecture, not on budgets."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int, like: Tensor) -> Tensor:
        return torch.randint(low, high + 1, like.shape, generator=generator).double()

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.copy_(draw(-4, 4, module.weight) / (16 if module.weight[0].numel() > 32 else 8))
                if module.bias is not None:
                    module.bias.copy_(draw(-8, 8, module.bias) / 8)
            if isinstance(module, Norm):
                like = module.selected.weight
                scale, deviation = draw(1, 5, like) / 4, 2 ** draw(-1, 1, like)
                shift, mean = draw(-2, 12, like) / 8, draw(-4, 4, like) / 8
                for norm in module.per_budget.values():
                    assert isinstance(norm, nn.BatchNorm1d)
                    assert norm.running_mean is not None
                    assert norm.running_var is not None
                    norm.weight.copy_(scale)
                    norm.bias.copy_(shift)
                    norm.running_mean.copy_(mean)
                    norm.running_var.copy_(deviation**2 - norm.eps)
                    assert torch.equal((norm.running_var + norm.eps).sqrt(), deviation)
    return network


def thresholds(ann: Network, values: list[float]) -> Network:
    """ϑ of the layers in turn, exactly."""
    relus = [module for module in ann.modules() if isinstance(module, QuantisedReLU)]
    for index, relu in enumerate(relus):
        assert not relu.learned
        relu.threshold.fill_(values[index % len(values)])
    return ann


def pictures(seed: int, count: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 17, (count, 1, SIZE, SIZE), generator=generator).double() / 16


@torch.no_grad()
def logits(network: Network, images: Tensor, timesteps: int) -> Tensor:
    answer: Tensor = network(images, timesteps)
    return answer


@pytest.mark.parametrize("levels", [2, 4])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@few
@given(timesteps=st.sampled_from([1, 2, 4, 8]), seed=SEEDS)
def test_theorem_lm_ht_at_its_initial_values_equals_the_quantised_ann_through_a_whole_network(
    architecture: str, levels: int, timesteps: int, seed: int
) -> None:
    """As built for direct training: θ = 2/L, v_0 = 0; the ANN has T·L levels up to 2, rounding down. Exactly equal."""
    ann = as_ann(dyadic(untrained(architecture, (1,)), seed), timesteps * levels, learned=False, offset=0.0)
    assert {module.threshold.item() for module in ann.modules() if isinstance(module, QuantisedReLU)} == {2.0}
    images = pictures(seed)
    expected = logits(ann, images, 1)
    assume(len(expected.unique(dim=0)) > 1)
    for tgim in MIXING:
        spiking = dyadic(untrained(architecture, (timesteps,), levels, tgim), seed)
        assert torch.equal(logits(spiking, images, timesteps), expected)


@pytest.mark.parametrize(("timesteps", "levels"), [(1, 1), (1, 4), (2, 2), (2, 4), (4, 2)])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@few
@given(seed=SEEDS, ranges=st.lists(st.sampled_from([0.5, 1.0, 2.0, 4.0]), min_size=1, max_size=5))
def test_theorem_a_hybrid_start_with_t_times_l_levels_equals_the_qcfs_ann_through_a_whole_network(
    architecture: str, timesteps: int, levels: int, seed: int, ranges: list[float]
) -> None:
    """Tq = T·L, a ϑ of its own in each layer, all numbers dyadic: exactly equal, currents halfway included."""
    ann = as_ann(dyadic(untrained(architecture, (1,)), seed), timesteps * levels, learned=False, offset=0.5)
    thresholds(ann, ranges)
    images = pictures(seed)
    expected = logits(ann, images, 1)
    assume(len(expected.unique(dim=0)) > 1)
    for tgim in MIXING:
        spiking = to_spiking(ann, untrained(architecture, (timesteps, 16), levels, tgim))
        assert torch.equal(logits(spiking, images, timesteps), expected)


@pytest.mark.parametrize(("timesteps", "levels"), [(3, 2), (2, 3), (5, 2)])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@few
@given(seed=SEEDS)
def test_theorem_a_hybrid_start_equals_the_qcfs_ann_for_any_learned_thresholds_and_weights(
    architecture: str, timesteps: int, levels: int, seed: int
) -> None:
    """To 1e-9. Pictures with a membrane within 1e-9 θ of a threshold, where rounding may decide, are left out."""
    generator = torch.Generator().manual_seed(seed)
    ann = as_ann(dyadic(untrained(architecture, (1,)), seed), timesteps * levels, learned=True, offset=0.5)
    with torch.no_grad():
        for parameter in ann.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64), alpha=0.1)
    learned = [module.threshold.item() for module in ann.modules() if isinstance(module, QuantisedReLU)]
    assert len(set(learned)) == len(learned) > 2
    images = pictures(seed)
    expected = logits(ann, images, 1)
    assume(len(expected.unique(dim=0)) > 1)
    for tgim in MIXING:
        spiking = to_spiking(ann, untrained(architecture, (timesteps,), levels, tgim))
        sure = torch.from_numpy(reference.run(spiking, timesteps, images).margins > 1e-9)
        assert sure.sum() > 1
        answers = logits(spiking, images, timesteps)
        torch.testing.assert_close(answers[sure], expected[sure], rtol=1e-9, atol=1e-9)


@few
@given(timesteps=st.sampled_from([2, 4, 8]), seed=SEEDS)
def test_theorem_with_one_level_a_layer_of_constant_currents_equals_its_qcfs_ann(timesteps: int, seed: int) -> None:
    """T = Tq, L = 1: plain ANN-SNN conversion, of a network whose only spiking layer is the first."""
    shape: dict[str, Any] = {"widths": [[6]], "hidden": [], "grid": [1, 1]}
    ann = as_ann(dyadic(untrained("vgg", (1,), **shape), seed), timesteps, learned=False, offset=0.5)
    spiking = to_spiking(ann, untrained("vgg", (timesteps,), 1, "none", **shape))
    images = pictures(seed)
    assert torch.equal(logits(spiking, images, timesteps), logits(ann, images, 1))


@pytest.mark.parametrize("timesteps", [2, 4])
def test_with_one_level_spikes_that_arrive_unevenly_make_deeper_layers_differ(timesteps: int) -> None:
    """Why the theorem needs a mixing: without one, the currents behind the first layer are not constant."""
    ann = as_ann(dyadic(untrained("vgg-pooled", (1,)), 1), timesteps, learned=False, offset=0.5)
    spiking = to_spiking(ann, untrained("vgg-pooled", (timesteps,), 1, "none"))
    assert not torch.allclose(logits(spiking, pictures(1), timesteps), logits(ann, pictures(1), 1), atol=1e-3)
