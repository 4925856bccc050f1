from __future__ import annotations

import random
import statistics

import numpy as np
import pytest

from service.tradeoff import estimates
from service.tradeoff.estimates import Ratio, difference, ratios, share


def test_an_accuracy_has_the_error_of_so_many_coins() -> None:
    found = share(np.array([True] * 30 + [False] * 10))
    assert found.value == 0.75
    # Of a share p of n: √(p(1 − p)/n).
    assert found.error == pytest.approx((0.75 * 0.25 / 40) ** 0.5)


def test_a_difference_is_that_of_pairs() -> None:
    first = [True, True, False, False, True, False, True, True]
    second = [True, False, True, True, True, True, True, True]
    pairs = [b - a for a, b in zip(first, second, strict=True)]
    found = difference(np.array(first), np.array(second))
    assert found.value == pytest.approx(statistics.mean(pairs))
    assert found.error == pytest.approx(statistics.stdev(pairs) / len(pairs) ** 0.5)
    assert difference(np.array(first), np.array(first)) == estimates.Estimate(0.0, 0.0)


def test_ratios_are_of_quantiles_and_their_intervals_those_of_a_bootstrap_over_rounds() -> None:
    generator = random.Random(3)
    slow_rounds = [generator.lognormvariate(0, 1) for _ in range(150)]
    first = [slow * generator.uniform(1.0, 1.2) for slow in slow_rounds]
    second = [slow * generator.uniform(1.4, 1.8) for slow in slow_rounds]

    def of(quantile: float, durations: list[float]) -> float:
        return statistics.quantiles(durations, n=20, method="inclusive")[round(20 * quantile) - 1]

    (_, _), (median, late) = ratios(np.array([first, second]), (0.5, 0.95))
    for quantile, found in ((0.5, median), (0.95, late)):
        assert found.value == pytest.approx(of(quantile, second) / of(quantile, first))
        drawn = []
        for _ in range(2000):
            rounds = generator.choices(range(150), k=150)
            drawn.append(of(quantile, [second[r] for r in rounds]) / of(quantile, [first[r] for r in rounds]))
        # In 40 parts: from 2.5 to 97.5 %.
        edges = statistics.quantiles(drawn, n=40, method="inclusive")
        assert (found.low, found.high) == pytest.approx((edges[0], edges[-1]), rel=0.03)


def test_rounds_are_drawn_for_all_alike() -> None:
    """What is always twice as slow is that for sure, however much the rounds differ."""
    durations = np.random.default_rng(0).lognormal(size=50)
    first, second = ratios(np.stack([durations, 2 * durations]), (0.5, 0.95))
    assert first == [Ratio(1.0, 1.0, 1.0)] * 2
    assert second == [Ratio(2.0, 2.0, 2.0)] * 2


def test_drawing_in_parts_draws_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    durations = np.random.default_rng(0).lognormal(size=(2, 60))
    (_, (whole,)) = ratios(durations, (0.5,))
    monkeypatch.setattr(estimates, "_CELLS_AT_ONCE", 60 * 7)
    (_, (parts,)) = ratios(durations, (0.5,))
    assert parts == whole
