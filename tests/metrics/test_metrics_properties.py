"""Properties of metrics: errors are symmetric, 0 for equal volumes, and scale with the unit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import shapes

from medcyclegan.metrics.image_metrics import mae, mean_error, ncc, psnr

seeds = st.integers(0, 10**6)


def drawn(shape, seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < 0.7
    mask.flat[0] = True
    return rng.normal(0, 300, shape), rng.normal(20, 200, shape), mask


@given(shape=shapes, seed=seeds)
def test_errors_are_symmetric_and_nought_for_equals(shape, seed):
    one, other, mask = drawn(shape, seed)
    assert mae(one, other, mask) == pytest.approx(mae(other, one, mask))
    assert mean_error(one, other, mask) == pytest.approx(-mean_error(other, one, mask))
    assert abs(mean_error(one, other, mask)) <= mae(one, other, mask) + 1e-9
    assert mae(one, one, mask) == 0
    assert psnr(one, one, value_range=(-1024, 3071), mask=mask) == float("inf")


@given(shape=shapes, seed=seeds, gain=st.floats(0.01, 100), offset=st.floats(-2000, 2000))
def test_a_change_of_unit_changes_what_it_must(shape, seed, gain, offset):
    one, other, mask = drawn(shape, seed)
    assert mae(gain * one + offset, gain * other + offset, mask) == pytest.approx(gain * mae(one, other, mask))
    assert ncc(gain * one + offset, other, mask) == pytest.approx(ncc(one, other, mask), abs=1e-6)
    assert -1 - 1e-9 <= ncc(one, other, mask) <= 1 + 1e-9
    outside = one.copy()
    outside[~mask] = 1e6
    assert mae(outside, other, mask) == pytest.approx(mae(one, other, mask))
