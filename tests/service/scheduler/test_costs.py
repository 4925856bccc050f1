from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.scheduler.costs import CostModel
from service.scheduler.handling import Handling

# Of an event loop that is never busy.
UNMEASURED = Handling(lambda: 0.0, 0.0)


def seeded(slope: float = 2.0, base: float = 1.0) -> CostModel:
    costs = CostModel(UNMEASURED)
    costs.seed("m", 1, {n: slope * n + base for n in (1, 16)})
    return costs


def test_a_line_is_known_from_what_was_timed_at_the_start() -> None:
    costs = seeded()
    for n in (1, 3, 16, 40):
        assert costs.seconds("m", 1, n) == pytest.approx(2 * n + 1)
    assert costs.seconds("m", 1, 32, batches=2) == pytest.approx(2 * 32 + 2)


@pytest.mark.parametrize("sizes", [(1, 16), (3, 4, 5), (7,)])
def test_the_line_follows_a_machine_that_has_become_slower(sizes: tuple[int, ...]) -> None:
    costs = seeded()
    for _ in range(60):
        for n in sizes:
            costs.observe("m", 1, n, 3 * (2 * n + 1))
    for n in sizes:
        assert costs.seconds("m", 1, n) == pytest.approx(3 * (2 * n + 1), rel=0.02)


def test_batches_of_one_size_say_nothing_of_the_slope_so_the_known_one_is_scaled() -> None:
    costs = seeded()
    for _ in range(200):
        costs.observe("m", 1, 4, 2 * (2 * 4 + 1))
    assert costs.seconds("m", 1, 16) == pytest.approx(2 * (2 * 16 + 1), rel=0.1)


def test_a_single_interruption_moves_a_prediction_by_less_than_a_tenth() -> None:
    costs = seeded()
    for n in (1, 2, 4, 8) * 5:
        costs.observe("m", 1, n, 2 * n + 1)
    costs.observe("m", 1, 4, 1000.0)
    for n in (1, 4, 16):
        assert costs.seconds("m", 1, n) == pytest.approx(2 * n + 1, rel=0.1)


def test_a_margin_covers_most_of_the_noise() -> None:
    costs, noise = seeded(), random.Random(0)
    for _ in range(300):
        costs.observe("m", 1, 4, 9 * noise.lognormvariate(0, 0.1))
    covered = sum(9 * noise.lognormvariate(0, 0.1) <= costs.at_most("m", 1, 4) for _ in range(1000))
    assert covered > 900
    assert costs.at_most("m", 1, 4) < 9 * 1.4


def test_models_and_budgets_are_kept_apart_and_can_be_forgotten() -> None:
    costs = seeded()
    costs.seed("m", 4, {1: 10.0})
    costs.seed("other", 1, {1: 20.0})
    assert [costs.seconds(*of, 1) for of in (("m", 1), ("m", 4), ("other", 1))] == pytest.approx([3.0, 10.0, 20.0])
    costs.forget("other")
    assert not costs.knows("other", 1)
    assert costs.seconds("other", 1, 2) == pytest.approx(20.0)  # as dear as the dearest that is known


def test_what_was_never_measured_is_proportional_once_it_is() -> None:
    costs = CostModel(UNMEASURED)
    assert costs.seconds("m", 1, 3) > 0
    costs.observe("m", 1, 4, 8.0)
    assert costs.seconds("m", 1, 10) == pytest.approx(20.0)


def test_a_batch_within_a_time_is_the_largest_that_fits() -> None:
    costs = seeded()
    assert [costs.batch_within("m", 1, s, 16) for s in (0.5, 3, 5, 5.5, 9, 33, 1e9)] == [1, 1, 2, 2, 4, 16, 16]
    assert costs.batch_within("unknown", 1, 1.0, 16) == 16


@given(
    seed=st.dictionaries(st.sampled_from([1, 4, 16]), st.floats(1e-6, 100), min_size=1),
    batches=st.lists(st.tuples(st.integers(1, 64), st.floats(0, 1e4)), max_size=60),
)
def test_predictions_are_never_negative_and_never_fall_with_the_number_of_images(
    seed: dict[int, float], batches: list[tuple[int, float]]
) -> None:
    costs = CostModel(UNMEASURED)
    costs.seed("m", 1, seed)
    for images, seconds in batches:
        costs.observe("m", 1, images, seconds)
    predicted = [costs.seconds("m", 1, n) for n in (1, 2, 5, 16, 100)]
    assert predicted[0] >= 0
    assert predicted == sorted(predicted)
    assert all(costs.at_most("m", 1, n) >= costs.seconds("m", 1, n) for n in (1, 16))
