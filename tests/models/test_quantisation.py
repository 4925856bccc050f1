"""Rounding of weights, and the limit that keeps a pair of 8-bit products within 16 bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from models.export.quantisation import quantise, weight_limit
from tests.models.reference import Floats


def test_a_pair_of_products_never_leaves_sixteen_bits_and_no_bit_is_given_away() -> None:
    for maximum in range(1, 256):
        limit = weight_limit(maximum)
        # The worst pair: both spikes at their maximum, both weights at -limit or +limit.
        assert -2 * maximum * limit >= -32768
        assert 2 * maximum * limit <= 32767
        assert limit == 127 or 2 * maximum * (limit + 1) > 32767
        assert limit >= 64
    assert weight_limit(129) == 127
    assert weight_limit(130) == 126


WEIGHTS = st_numpy.arrays(
    np.float64, st.sampled_from([(3, 2, 3, 3), (4, 5), (1, 1)]), elements=st.floats(-1e3, 1e3, allow_subnormal=False)
)


@settings(max_examples=150, deadline=None)
@given(WEIGHTS, st.integers(1, 255))
def test_weights_move_by_half_a_step_of_their_channel_at_most(weight: Floats, maximum: int) -> None:
    integers, scale = quantise(weight, maximum)
    assert integers.dtype == np.int8
    assert scale.dtype == np.float32
    assert integers.shape == weight.shape
    assert scale.shape == (len(weight),)
    assert np.abs(integers.astype(int)).max() <= weight_limit(maximum)
    for channel, codes, step in zip(weight, integers, scale, strict=True):
        if np.abs(channel).max() > 1e-30:  # smaller ones become zeros: float32 has no scale for them
            assert np.abs(codes.astype(int)).max() == weight_limit(maximum)
        assert np.abs(codes * float(step) - channel).max() <= float(step) * 0.500001


@pytest.mark.parametrize("dead", [0.0, 1e-44, 1e-300])
def test_a_channel_too_small_for_a_float32_scale_becomes_zeros(dead: float) -> None:
    integers, scale = quantise(np.array([[dead, -dead], [1.0, 0.0]]), 4)
    assert integers.tolist() == [[0, 0], [127, 0]]
    assert np.isfinite(scale).all()


def test_each_channel_has_a_scale_of_its_own_and_an_empty_one_stays_zero() -> None:
    weight = np.array([[1.27, -0.01], [0.0, 0.0], [-127.0, 1.0]])
    integers, scale = quantise(weight, 2)
    assert integers.tolist() == [[127, -1], [0, 0], [-127, 1]]
    assert scale.tolist() == pytest.approx([0.01, 1.0, 1.0])
