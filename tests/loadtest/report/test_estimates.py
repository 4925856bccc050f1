from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from loadtest.report import estimates
from loadtest.report.estimates import LEAST_WINDOWS, Mean, block_length, half_width, mean, student, wilson


@pytest.mark.parametrize(("right", "of"), [(0, 10), (10, 10), (7, 10), (838, 1000), (9999, 10000), (1, 1)])
def test_the_interval_of_a_share_is_wilsons(right: int, of: int) -> None:
    expected = stats.binomtest(right, of).proportion_ci(method="wilson")
    assert wilson(right, of) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_pictures_that_were_asked_again_do_not_narrow_an_interval() -> None:
    assert wilson(8380, 10000, samples=1000) == pytest.approx(wilson(838, 1000))
    assert wilson(838, 1000, samples=5000) == wilson(838, 1000)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 10, 31, 200])
@pytest.mark.parametrize("probability", [0.6, 0.975, 0.9995, 0.999999])
def test_students_quantile_is_scipys(probability: float, freedom: int) -> None:
    assert student(probability, freedom) == pytest.approx(stats.t.ppf(probability, freedom), rel=1e-6)


def test_a_mean_over_windows_weighs_them() -> None:
    sums, weights = np.arange(1.0, 25.0), np.arange(2.0, 26.0)
    assert mean(list(sums), list(weights)).value == pytest.approx(sums.sum() / weights.sum())


def test_windows_that_are_all_alike_have_no_error() -> None:
    found = mean([3.0] * 20, [2.0] * 20)
    assert (found.value, found.freedom) == (1.5, 4.0)
    assert found.error < 1e-12


def test_fewer_windows_than_enough_are_refused() -> None:
    with pytest.raises(ValueError, match="not enough"):
        mean([1.0] * (LEAST_WINDOWS - 1), [1.0] * (LEAST_WINDOWS - 1))


@pytest.mark.parametrize("windows", [12, 20, 60])
def test_the_error_is_that_of_blocks_drawn_one_by_one(windows: int) -> None:
    """Against a bootstrap as one would write it down, block for block."""
    draw = np.random.default_rng(7)
    values, weights = draw.gamma(4, size=windows), draw.uniform(1, 2, windows)
    length = block_length(windows)
    blocks = round(windows / length)
    again = []
    for _ in range(4000):
        chosen = [(start + i) % windows for start in draw.integers(0, windows, blocks) for i in range(length)]
        again.append(values[chosen].sum() / weights[chosen].sum())
    expected = np.std(again) * math.sqrt(blocks / (windows / length - 1))
    assert mean(list(values), list(weights)).error == pytest.approx(expected, rel=0.06)


def test_windows_that_are_alike_in_a_row_have_a_larger_error_than_the_same_in_disorder() -> None:
    draw = np.random.default_rng(1)
    rows = np.repeat(draw.standard_normal(10), 6)
    disorder = draw.permutation(rows)
    assert mean(list(rows), [1.0] * 60).error > 1.5 * mean(list(disorder), [1.0] * 60).error


def test_an_interval_is_welchs() -> None:
    draw = np.random.default_rng(2)
    a, b = draw.standard_normal(9), 3 * draw.standard_normal(14)
    parts = [Mean(x.mean(), x.std(ddof=1) / math.sqrt(len(x)), len(x) - 1) for x in (a, b)]
    expected = stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.99)
    freedom = stats.ttest_ind(b, a, equal_var=False).df
    # Ours takes the whole degrees of freedom below.
    ratio = stats.t.ppf(0.995, math.floor(freedom)) / stats.t.ppf(0.995, freedom)
    assert half_width(parts, 0.01) == pytest.approx(ratio * (expected.high - expected.low) / 2)


@pytest.mark.parametrize(("windows", "likeness"), [(12, 0.0), (20, 0.3)])
def test_an_interval_of_95_percent_misses_in_about_5_percent(
    windows: int, likeness: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimates, "_RESAMPLES", 300)
    estimates._starts.cache_clear()
    draw = np.random.default_rng(3)
    found = [mean(list(alike(windows, likeness, draw)), [1.0] * windows) for _ in range(1200)]
    estimates._starts.cache_clear()
    pairs = zip(found[::2], found[1::2], strict=True)
    missed = np.mean([abs(a.value - b.value) > half_width((a, b), 0.05) for a, b in pairs])
    assert 0.01 < missed < 0.085


def alike(windows: int, likeness: float, draw: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Normal values of which neighbours correlate."""
    values = draw.standard_normal(windows)
    for i in range(1, windows):
        values[i] = likeness * values[i - 1] + math.sqrt(1 - likeness**2) * values[i]
    return values
