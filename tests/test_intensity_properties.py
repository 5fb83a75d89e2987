"""Properties of scalings: order is kept, clipping is counted, thresholds scale with the unit."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.phantoms import head_mr

from medcyclegan.intensity import IntensityScaling, foreground_threshold

HEAD = head_mr((16, 18, 6)).array.astype(np.float64)
scalings = st.builds(
    lambda lower, width, unit: IntensityScaling("window", lower, lower + width, unit),
    st.floats(-1e4, 1e4), st.floats(1.0, 1e5), st.sampled_from(["HU", "arbitrary units"]),
)  # fmt: skip
values = st.lists(st.floats(-1e5, 1e5, width=32), min_size=1, max_size=30).map(lambda found: np.array(found))


@given(scaling=scalings, found=values)
def test_order_is_kept_and_nothing_leaves_the_range(scaling, found):
    scaled = scaling.normalize(np.sort(found))
    assert (np.diff(scaled) >= 0).all()
    assert np.abs(scaled).max() <= 1
    back = scaling.denormalize(scaled)
    assert (np.diff(back) >= 0).all()
    assert back.min() >= np.float32(scaling.lower)
    assert back.max() <= np.float32(scaling.upper)


@given(scaling=scalings, found=values)
def test_what_was_scaled_once_stays_where_it_is(scaling, found):
    once = scaling.denormalize(scaling.normalize(found))
    again = scaling.denormalize(scaling.normalize(once))
    largest = max(abs(scaling.lower), abs(scaling.upper))
    assert np.abs(again - once).max() <= 4e-6 * largest


@given(scaling=scalings, found=values)
def test_clipped_measurements_are_counted_one_by_one(scaling, found):
    below = [v for v in found if -1024 <= v < scaling.lower] if scaling.unit == "HU" else []
    assert scaling.count_clipped(found) == len(below) + sum(v > scaling.upper for v in found)


@given(scaling=scalings)
def test_any_scaling_travels_as_json(scaling):
    assert IntensityScaling.from_dict(json.loads(json.dumps(scaling.to_dict()))) == scaling


@given(gain=st.floats(0.01, 1000.0), offset=st.floats(-500.0, 500.0))
def test_thresholds_and_percentiles_follow_a_change_of_unit(gain, offset):
    changed = gain * HEAD + offset
    expected = gain * foreground_threshold(HEAD, "MR") + offset
    step = gain * np.ptp(HEAD) / 256  # of Otsu's histogram
    assert foreground_threshold(changed, "MR") == pytest.approx(expected, abs=step)
    one, other = (IntensityScaling.fit(array, modality="MR") for array in (HEAD, changed))
    assert other.lower == pytest.approx(gain * one.lower + offset, abs=3 * step)
    assert other.upper == pytest.approx(gain * one.upper + offset, abs=3 * step)
