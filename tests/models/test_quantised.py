"""The quantised ReLU: its formula in fractions, its gradients by plain autograd, and its learned threshold."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from models.neuron import Neuron
from models.quantised import QuantisedReLU

quick = settings(max_examples=100, deadline=None)


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
