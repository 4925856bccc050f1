from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loadtest.report.scales import Axis, Linear, Log

SPANS = st.tuples(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6)).filter(lambda s: s[1] > 1e-6 * abs(s[0]))
RATIOS = st.tuples(st.floats(1e-6, 1e6), st.floats(1.2, 1e9))


@given(SPANS, st.integers(3, 10))
@example((1.0, 400001.0), 3)
def test_even_ticks_are_round_within_the_axis_and_neither_too_many_nor_too_few(
    span: tuple[float, float], most: int
) -> None:
    scale = Linear(span[0], span[0] + span[1])
    ticks = scale.ticks(most)
    assert 1 <= len(ticks) <= most + 1
    steps = [b - a for a, b in pairwise(ticks)]
    assert all(scale.low - 1e-6 * span[1] <= t <= scale.high + 1e-6 * span[1] for t in ticks)
    for step in steps:
        mantissa = step / 10 ** math.floor(math.log10(step) + 1e-6)
        assert min(abs(mantissa - m) for m in (1, 2, 5)) < 0.01


@given(RATIOS, st.integers(4, 9))
def test_logarithmic_ticks_are_within_the_axis_and_ascend(span: tuple[float, float], most: int) -> None:
    scale = Log(span[0], span[0] * span[1])
    ticks = scale.ticks(most)
    assert len(ticks) <= most + 1
    assert ticks == sorted(set(ticks))
    assert all(scale.low * 0.999 <= t <= scale.high * 1.001 for t in ticks)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.9, 110, [1, 2, 5, 10, 20, 50, 100]),
        (0.9, 1.1e6, [1, 10, 100, 1000, 10000, 100000, 1000000]),
        (290, 1100, [300, 400, 500, 600, 700, 800, 900, 1000]),
        (1, 2, [1.0, 1.2, 1.4, 1.6, 1.8, 2.0]),
    ],
)
def test_ticks_are_where_one_expects_them(low: float, high: float, ticks: list[float]) -> None:
    assert Log(low, high).ticks(8) == pytest.approx(ticks)


def test_a_scale_is_0_at_its_low_end_and_1_at_its_high_one() -> None:
    for scale in (Linear(2, 8), Log(2, 8)):
        assert [scale(2), scale(8)] == pytest.approx([0, 1])
    assert Linear(2, 8)(5) == 0.5
    assert Log(2, 8)(4) == pytest.approx(0.5)
    assert Log(2, 8)(0) == 0


def test_an_axis_leaves_room_but_never_beyond_what_is_possible() -> None:
    axis = Axis("accuracy, %", str, ceiling=100)
    scale = axis.scale([98, 99.9])
    assert scale.low < 98
    assert 99.9 < scale.high <= 100
    assert Axis("rate", str, zero=True).scale([5, 10]).low == 0
    assert Axis("rate", str, log=True).scale([5, 10]).low < 5


@pytest.mark.parametrize("axis", [Axis("x", str), Axis("x", str, log=True), Axis("x", str, zero=True, ceiling=100)])
@pytest.mark.parametrize("values", [[], [100.0], [0.0, 0.0], [100.0, 100.0], [float("nan")], [1e-9]])
def test_an_axis_of_one_value_or_none_still_is_one(axis: Axis, values: list[float]) -> None:
    scale = axis.scale(values)
    assert scale.low < scale.high
    assert all(math.isfinite(scale(v)) for v in values if math.isfinite(v))
    assert axis.ticks_of(scale) is not None
