"""The neuron against a scalar one written from the equations, exactly on dyadic numbers, and its surrogate gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.neuron import Neuron, Tgim
from tests.models import reference

# sigmoid takes these to exactly 0, ½ and 1 in float64.
OFF, NEUTRAL, FULL_ON = -800.0, 0.0, 40.0
SIGMOID = {OFF: Fraction(0), NEUTRAL: Fraction(1, 2), FULL_ON: Fraction(1)}
EXACT = st.sampled_from([OFF, NEUTRAL, NEUTRAL, FULL_ON])
KINDS: tuple[Tgim, ...] = ("full", "factored", "none")
TGIM = st.sampled_from(KINDS)
# Sixteenths, so that membranes often lie exactly on a threshold; down to strongly negative, up to saturation.
CURRENT = st.integers(-80, 96).map(lambda n: n / 16)
NEURONS = 6

quick = settings(max_examples=100, deadline=None)


def build(
    timesteps: int,
    levels: int,
    tgim: Tgim,
    *,
    constant_input: bool = False,
    threshold: float | None = None,
    initial_membrane: float = 0.0,
) -> Neuron:
    return Neuron(
        [timesteps],
        levels,
        tgim,
        constant_input=constant_input,
        threshold=threshold,
        initial_membrane=initial_membrane,
    ).double()


def set_mask(neuron: Neuron, values: list[float]) -> None:
    if neuron.mask:
        mask = neuron.mask[str(neuron.timesteps)]
        mask.data = torch.tensor(values[: mask.numel()], dtype=torch.float64).reshape(mask.shape)


def set_alpha(neuron: Neuron, value: float) -> None:
    for alpha in neuron.alpha.values():
        alpha.data.fill_(value)


@st.composite
def exact_neurons(draw: st.DrawFn) -> Neuron:
    """Any neuron whose mixing, leak and threshold are dyadic."""
    levels = draw(st.integers(1, 4))
    neuron = build(
        draw(st.sampled_from([1, 2, 4])),
        levels,
        draw(TGIM),
        constant_input=draw(st.booleans()),
        threshold=draw(st.sampled_from([0.5, 0.75, 1.0, 2.0])),
        initial_membrane=draw(st.sampled_from([0.0, 0.5, 0.25])),
    )
    set_mask(neuron, draw(st.lists(EXACT, min_size=16, max_size=16)))
    set_alpha(neuron, draw(EXACT))
    return neuron


def by_hand(
    neuron: Neuron, currents: list[list[float]], sigmoid: Callable[[float], Fraction] | Callable[[float], float]
) -> list[list[Fraction]]:
    """θ·s of each neuron [step][neuron], one scalar neuron after the other; a single row means it is without time."""
    steps, key = neuron.timesteps, str(neuron.timesteps)
    threshold = Fraction(float(neuron.threshold))
    initial = Fraction(float(neuron.initial_membrane[key])) * threshold
    leak = Fraction(sigmoid(neuron.alpha[key].item())) + Fraction(1, 2) if neuron.levels > 1 else Fraction(1)
    mixing = None
    if neuron.levels > 1 and neuron.tgim != "none":
        mask = neuron.mask[key].tolist()
        rows = [[m] * steps for m in mask] if neuron.tgim == "factored" else mask
        mixing = [[2 * Fraction(sigmoid(m)) / steps for m in row] for row in rows]
    rows_of_currents = currents * steps if len(currents) == 1 else currents
    spikes = [
        reference.fire([Fraction(i) for i in series], mixing, leak, initial, threshold, neuron.levels)
        for series in zip(*rows_of_currents, strict=True)
    ]
    return [[threshold * s[t] for s in spikes] for t in range(steps)]


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@st.composite
def currents_for(draw: st.DrawFn, neuron: Neuron) -> list[list[float]]:
    timeless = neuron.constant_input or neuron.tgim == "factored"
    row = st.lists(CURRENT, min_size=NEURONS, max_size=NEURONS)
    rows = 1 if timeless else neuron.timesteps
    return draw(st.lists(row, min_size=rows, max_size=rows))


def fire(neuron: Neuron, currents: list[list[float]]) -> Tensor:
    """Rows of currents as a batch of 2 maps of 1×3, in the module's layout [T·B, …]; outputs as rows again."""
    maps = torch.tensor(currents, dtype=torch.float64).reshape(-1, 1, 3)
    with torch.no_grad():
        outputs: Tensor = neuron(maps)
    return outputs.reshape(-1, NEURONS)


@quick
@given(st.data())
def test_the_neuron_follows_the_equations_exactly_on_dyadic_numbers(data: st.DataObject) -> None:
    neuron = data.draw(exact_neurons())
    currents = data.draw(currents_for(neuron))
    expected = by_hand(neuron, currents, SIGMOID.__getitem__)
    if neuron.tgim == "factored":
        expected = [[sum(column, Fraction(0)) / neuron.timesteps for column in zip(*expected, strict=True)]]
    assert [[Fraction(x) for x in row] for row in fire(neuron, currents).tolist()] == expected


@quick
@given(st.data())
def test_the_neuron_follows_the_equations_for_any_mask_leak_and_threshold(data: st.DataObject) -> None:
    parameter = st.floats(-4, 4)
    neuron = build(
        data.draw(st.integers(1, 5)),
        data.draw(st.integers(1, 5)),
        data.draw(TGIM),
        constant_input=data.draw(st.booleans()),
        threshold=data.draw(st.none() | st.floats(0.2, 3)),
        initial_membrane=data.draw(st.floats(0, 0.99)),
    )
    set_mask(neuron, data.draw(st.lists(parameter, min_size=25, max_size=25)))
    set_alpha(neuron, data.draw(parameter))
    currents = data.draw(currents_for(neuron))
    expected = by_hand(neuron, currents, logistic)
    # Rational arithmetic and float64 may see another side of a threshold where a nudge moves the membrane over it.
    for nudge in (1e-11, -1e-11):
        nudged = [[i * (1 + nudge) + nudge for i in row] for row in currents]
        assume(by_hand(neuron, nudged, logistic) == expected)
    rows = torch.tensor([[float(x) for x in row] for row in expected], dtype=torch.float64)
    if neuron.tgim == "factored":
        rows = rows.mean(0, keepdim=True)
    torch.testing.assert_close(fire(neuron, currents), rows, rtol=1e-12, atol=1e-12)


@quick
@given(st.data())
def test_theorem_at_the_initial_values_the_mean_output_is_a_quantised_relu_of_the_mean_current(
    data: st.DataObject,
) -> None:
    """Mean output = (θ/T)·clip(⌊(T·Ī + v_0)/θ⌋, 0, T·L), for any currents under the full T-GIM, constant ones else."""
    steps, levels = data.draw(st.sampled_from([1, 2, 4, 8])), data.draw(st.integers(1, 4))
    initial = data.draw(st.sampled_from([0.0, 0.5, 0.25]))
    neuron = build(
        steps, levels, data.draw(TGIM), threshold=data.draw(st.sampled_from([0.5, 1.0, 0.75])), initial_membrane=initial
    )
    row = st.lists(CURRENT, min_size=NEURONS, max_size=NEURONS)
    if neuron.tgim == "full":
        currents = data.draw(st.lists(row, min_size=steps, max_size=steps))
    else:
        currents = [data.draw(row)] * (1 if neuron.tgim == "factored" else steps)
    threshold = Fraction(float(neuron.threshold))
    expected = []
    for series in zip(*currents, strict=True):
        mean = sum(map(Fraction, series), Fraction(0)) / len(series)
        level = math.floor((steps * mean + Fraction(initial) * threshold) / threshold)
        expected.append(threshold / steps * min(max(level, 0), steps * levels))
    assert [Fraction(x) for x in fire(neuron, currents).mean(0).tolist()] == expected


@quick
@given(st.data())
def test_theorem_factored_equals_full_with_equal_weights_in_each_row(data: st.DataObject) -> None:
    steps, levels = data.draw(st.sampled_from([2, 4])), data.draw(st.integers(2, 4))
    full, factored = build(steps, levels, "full"), build(steps, levels, "factored")
    gains = data.draw(st.lists(EXACT, min_size=steps, max_size=steps))
    alpha = data.draw(EXACT)
    set_mask(factored, gains)
    set_mask(full, [gain for gain in gains for _ in range(steps)])
    for neuron in (full, factored):
        neuron.threshold.fill_(0.5)
        set_alpha(neuron, alpha)
    row = st.lists(CURRENT, min_size=NEURONS, max_size=NEURONS)
    currents = torch.tensor(data.draw(st.lists(row, min_size=steps, max_size=steps)), dtype=torch.float64)
    every_step = fire(full, currents.tolist())
    assert torch.equal(fire(factored, currents.mean(0, keepdim=True).tolist()), every_step.mean(0, keepdim=True))


@pytest.mark.parametrize(("levels", "threshold"), [(1, 1.0), (2, 1.0), (4, 0.5), (8, 0.25)])
def test_direct_training_starts_at_threshold_two_over_levels_with_neutral_parameters(
    levels: int, threshold: float
) -> None:
    neuron = Neuron([1, 4], levels)
    assert float(neuron.threshold) == threshold
    for steps in (1, 4):
        neuron.timesteps = steps
        assert neuron.initial_membrane[str(steps)].item() == 0
        if levels == 1:
            assert neuron.mixing is None
            assert neuron.leak is None
        else:
            assert neuron.mixing is not None
            assert torch.equal(neuron.mixing, torch.full((steps, steps), 1 / steps))
            assert neuron.leak is not None
            assert neuron.leak.item() == 1
    assert any(p.requires_grad for p in neuron.parameters()) == (levels > 1)


# --- Surrogate gradient ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_the_surrogate_is_one_from_half_a_threshold_to_half_beyond_the_last_level(levels: int) -> None:
    threshold = 0.5
    low, high = threshold / 2, (levels + 0.5) * threshold
    membranes = [-1.0, 0.0, math.nextafter(low, 0), low, threshold, high, math.nextafter(high, 9), 9.0]
    current = torch.tensor([membranes], dtype=torch.float64, requires_grad=True)
    build(1, levels, "none", threshold=threshold)(current).sum().backward()
    assert current.grad is not None
    assert current.grad.tolist() == [[0, 0, 0, 1, 1, 1, 0, 0]]


def slow_forward(neuron: Neuron, current: Tensor, mask: Tensor | None, alpha: Tensor | None) -> Tensor:
    """The same by plain autograd: a straight-through step, membranes detached for L > 1 alone."""
    steps, threshold, levels = neuron.timesteps, neuron.threshold, neuron.levels
    timeless = neuron.constant_input or neuron.tgim == "factored"
    timed = [current] * steps if timeless else list(current.reshape(steps, -1, *current.shape[1:]))
    if mask is None:
        mixed = timed
    elif neuron.tgim == "factored":
        mixed = [2 * torch.sigmoid(mask[t]) * timed[t] for t in range(steps)]
    else:
        omega = 2 * torch.sigmoid(mask) / steps
        mixed = [sum((omega[t, j] * timed[j] for j in range(steps)), torch.zeros(())) for t in range(steps)]
    membrane = neuron.initial_membrane[str(steps)].detach() * threshold * torch.ones_like(mixed[0])
    outputs = []
    for x in mixed:
        if alpha is not None:
            membrane = (torch.sigmoid(alpha) + 0.5) * membrane.detach()
        charged = membrane + x
        inside = (charged.detach() >= threshold / 2) & (charged.detach() <= (levels + 0.5) * threshold)
        spike = threshold * (charged.detach() / threshold).floor().clamp(0, levels)
        output = spike + inside * (charged - charged.detach())
        outputs.append(output)
        membrane = charged - output
    return torch.stack(outputs).mean(0) if neuron.tgim == "factored" else torch.cat(outputs)


@pytest.mark.parametrize("steps", [1, 3, 4])
@pytest.mark.parametrize("tgim", ["full", "factored", "none"])
@pytest.mark.parametrize(("levels", "constant_input"), [(1, False), (2, False), (3, True), (4, False)])
def test_gradients_equal_those_of_plain_autograd(steps: int, tgim: Tgim, levels: int, constant_input: bool) -> None:
    generator = torch.Generator().manual_seed(steps)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    neuron = build(steps, levels, tgim, constant_input=constant_input, threshold=0.7, initial_membrane=0.5)
    key = str(steps)
    if key in neuron.mask:
        neuron.mask[key].data = normal(*neuron.mask[key].shape)
    if key in neuron.alpha:
        neuron.alpha[key].data = normal()
    rows = 5 if constant_input or neuron.tgim == "factored" else 5 * steps
    values = normal(rows, 2, 3, 3)
    weights = normal(5 if neuron.tgim == "factored" else 5 * steps, 2, 3, 3)

    current = values.clone().requires_grad_()
    output = neuron(current)
    (output * weights).sum().backward()

    again = values.clone().requires_grad_()
    mask = neuron.mask[key].detach().clone().requires_grad_() if key in neuron.mask else None
    alpha = neuron.alpha[key].detach().clone().requires_grad_() if key in neuron.alpha else None
    expected = slow_forward(neuron, again, mask, alpha)
    (expected * weights).sum().backward()

    def close(a: Tensor | None, b: Tensor | None) -> None:
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)

    close(output, expected)
    close(current.grad, again.grad)
    assert bool(current.grad.any())  # type: ignore[union-attr]
    if mask is not None:
        close(neuron.mask[key].grad, mask.grad)
        assert bool(mask.grad.any())
    if alpha is not None:
        close(neuron.alpha[key].grad, alpha.grad)
    assert neuron.initial_membrane[key].grad is None


@pytest.mark.parametrize(("levels", "reaches"), [(1, 1.0), (2, 0.0), (4, 0.0)])
def test_the_gradient_goes_through_time_for_one_level_only(levels: int, reaches: float) -> None:
    """A first current below half a threshold fires nothing, but its charge helps the second step to fire."""
    current = torch.tensor([[0.25], [1.0]], dtype=torch.float64, requires_grad=True)
    output = build(2, levels, "none", threshold=1.0)(current)
    output[1].sum().backward()
    assert current.grad is not None
    assert current.grad.tolist() == [[reaches], [1.0]]


def test_each_budget_has_a_mask_a_leak_and_an_initial_membrane_of_its_own() -> None:
    neuron = Neuron([1, 2, 4], 2).double()
    with torch.no_grad():
        for index, key in enumerate(("1", "2", "4")):
            neuron.mask[key].fill_(index)
            neuron.alpha[key].fill_(-index)
            neuron.initial_membrane[key].fill_(index / 4)
    for index, (steps, sigmoid) in enumerate(((1, 0.5), (2, logistic(1)), (4, logistic(2)))):
        neuron.timesteps = steps
        assert neuron.mixing is not None
        assert neuron.leak is not None
        assert neuron.mixing.shape == (steps, steps)
        assert neuron.mixing.unique().item() == pytest.approx(2 * sigmoid / steps, abs=1e-15)
        assert neuron.leak.item() == pytest.approx(1.5 - sigmoid, abs=1e-15)
        assert torch.equal(neuron(torch.zeros(steps, 1).double()), torch.zeros(steps, 1).double())
        assert neuron.initial_membrane[str(steps)].item() == index / 4
    assert all(a.data_ptr() != b.data_ptr() for a, b in pairwise(neuron.parameters()))
