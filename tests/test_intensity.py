import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.phantoms import head_ct, head_mr

from medcyclegan.config import Scaling
from medcyclegan.errors import IntensityError
from medcyclegan.intensity import (
    CT_WINDOW_HU,
    IntensityScaling,
    check_hu,
    even_sample,
    foreground_mask,
    foreground_threshold,
    looks_like_hu,
)

HU = IntensityScaling("window", -1024.0, 3071.0, "HU")


def test_ct_is_a_fixed_window():
    scaling = IntensityScaling.fit(head_ct().array, modality="CT")
    assert scaling == HU
    assert Scaling().window_hu == CT_WINDOW_HU == (scaling.lower, scaling.upper)
    values = np.array([[[-3024, -1024, 0, 3071, 5000]]], np.int16)
    scaled = scaling.normalize(values)
    assert scaled.dtype == np.float32
    assert scaled[0, 0].tolist() == pytest.approx([-1, -1, -1 + 2 * 1024 / 4095, 1, 1])
    assert scaling.count_clipped(values) == 1, "padding is no clipped measurement"


@pytest.mark.parametrize("shape", [(), (5,), (0,), (3, 4), (130, 120, 110)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_clipped_measurements_are_counted_in_arrays_of_any_layout(shape, order):
    values = np.random.default_rng(0).integers(-3000, 5000, shape).astype(np.float32)
    expected = np.count_nonzero((values > 3071) | ((values < -1000) & (values >= -1024)))
    narrow = IntensityScaling("window", -1000.0, 3071.0, "HU")
    assert narrow.count_clipped(np.array(values, order=order)) == expected
    assert narrow.count_clipped(np.array(values, order=order)[::-1] if shape else values) == expected


@pytest.mark.parametrize(("lower", "upper"), [(0.0, 1e308), (-1e31, 0.0), (5.0, 5.0), (0.0, float("nan"))])
def test_a_range_that_cannot_be_computed_with_is_refused(lower, upper):
    with pytest.raises(IntensityError, match=r"it must ascend|cannot be computed with"):
        IntensityScaling("percentile", lower, upper, "arbitrary units")


def test_every_hu_comes_back_exactly():
    values = np.arange(-1024, 3072, dtype=np.int16)
    assert np.array_equal(np.rint(HU.denormalize(HU.normalize(values))), values)


def test_float16_keeps_half_a_hu():
    values = np.linspace(-1024, 3071, 100_001)
    stored = HU.normalize(values).astype(np.float16)
    assert np.abs(HU.denormalize(stored) - values).max() <= 0.5


@given(
    lower=st.floats(-1e5, 1e5),
    width=st.floats(1e-2, 1e6),
    shares=st.lists(st.floats(0, 1), min_size=1, max_size=20),
)
def test_the_inverse_is_exact_inside_the_range_and_clips_outside(lower, width, shares):
    scaling = IntensityScaling("percentile", lower, lower + width, "arbitrary units")
    values = lower + width * np.array(shares)
    back = scaling.denormalize(scaling.normalize(values))
    assert np.abs(back - values).max() <= 4e-6 * max(width, abs(lower), abs(lower + width))
    outside = scaling.normalize(np.array([lower - width, lower + 2 * width]))
    assert outside.tolist() == [-1, 1]


def test_mr_takes_percentiles_of_the_foreground_only():
    rng = np.random.default_rng(0)
    array = rng.normal(0, 3, (60, 60, 20))
    array[15:45, 15:45] = rng.uniform(200, 1200, (30, 30, 20))
    scaling = IntensityScaling.fit(array, modality="MR")
    assert scaling.kind == "percentile"
    assert scaling.lower == pytest.approx(205, abs=2)
    assert scaling.upper == pytest.approx(1195, abs=2)
    wider = IntensityScaling.fit(array, modality="MR", percentiles=(10, 90))
    assert (wider.lower, wider.upper) == (pytest.approx(300, abs=5), pytest.approx(1100, abs=5))


def test_dark_tissue_inside_the_head_is_foreground():
    mr = head_mr()
    mask = foreground_mask(mr.array, foreground_threshold(mr.array, "MR"))
    centre = tuple(n // 2 for n in mr.shape)
    hollow = mr.array.copy()
    hollow[centre] = 0
    assert foreground_mask(hollow, foreground_threshold(hollow, "MR"))[centre]
    assert 0.2 < mask.mean() < 0.8


def test_scaling_ignores_a_few_bright_voxels():
    mr = head_mr().array.astype(np.float32)
    spiked = mr.copy()
    spiked[20, 20, 10:12] = 1e6
    before, after = (IntensityScaling.fit(a, modality="MR") for a in (mr, spiked))
    assert after.upper == pytest.approx(before.upper, rel=0.05)


def test_pictures_take_their_bit_depth():
    scaling = IntensityScaling.fit(np.full((4, 4, 1), 7, np.uint8), modality=None, value_range=(0, 255))
    assert (scaling.kind, scaling.lower, scaling.upper) == ("range", 0.0, 255.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a + 1024, "air is near -1000"),
        (lambda a: (a + 1000) / 4000, "air is near -1000"),
        (lambda a: np.clip(a, -160, 240), "air is near -1000"),
        (lambda a: np.full(a.shape, 40), "air is near -1000"),
        (lambda a: np.full(a.shape, -1000), "soft tissue"),
        (lambda a: np.full(a.shape, -3024), "air is near -1000"),
    ],
)
def test_a_ct_that_is_not_in_hu_is_refused(change, message):
    with pytest.raises(IntensityError, match=message):
        IntensityScaling.fit(change(head_ct().array.astype(np.float32)), modality="CT")


def hu(**counts):
    """Return a volume of 100,001 voxels: the given number of each value (``m800`` is -800), the others 40."""
    values = np.full((100_001, 1, 1), 40, np.int16)
    start = 0
    for name, count in counts.items():
        values[start : start + count] = -int(name[1:]) if name[0] == "m" else int(name[1:])
        start += count
    return values


@pytest.mark.parametrize(
    ("values", "accepted"),
    [
        (hu(m800=51), True),
        (hu(m799=51), False),
        (hu(m1000=50), False),  # the 0.05th percentile is the 51st of 100,001
        (hu(m1000=51), True),
        (hu(m1024=51), True),
        (hu(m1025=51), False),  # padding
        (hu(m1025=60_000, m1000=21), True),  # of 40,001 measurements
        (hu(m1025=60_000, m1000=20), False),
        (hu(m1000=99_900), True),
        (hu(m1000=99_901), False),  # 100 of 100,001 are soft tissue: less than 0.1 %
        (hu(m1025=1, m1000=99_900), True),  # 100 of 100,000
        (hu(m1000=60_000, m250=40_001), False),
        (hu(m1000=60_000, m249=40_001), True),
        (hu(m1000=60_000, p350=40_001), False),
        (hu(m1000=60_000, p349=40_001), True),
    ],
)
def test_the_limits_of_hu(values, accepted):
    assert looks_like_hu(values) == accepted
    if accepted:
        check_hu(values)
        return
    with pytest.raises(IntensityError, match="not in HU"):
        check_hu(values)


def test_what_looks_like_hu():
    assert looks_like_hu(head_ct().array)
    assert looks_like_hu(head_ct().array.astype(np.float32) + 0.5)
    for values in (head_mr().array, np.zeros((0, 3, 3)), np.full((3, 3, 3), np.nan), np.zeros((3, 3, 3))):
        assert not looks_like_hu(values)


def test_air_in_ct_is_below_500():
    assert foreground_threshold(head_ct().array, "CT") == -500.0
    edge = np.array([[[-501, -500, -499]]])
    assert (edge > foreground_threshold(edge, "CT")).tolist() == [[[False, False, True]]]


def test_the_foreground_begins_at_half_of_otsu_s_threshold():
    """Of evenly spread values, without the lowest and the highest thousandth, Otsu's threshold is the middle."""
    values = np.linspace(0, 1000, 100_001).reshape(-1, 1, 1)
    assert foreground_threshold(values, "MR") == pytest.approx(1 + 499 / 2, abs=2)
    skewed = np.concatenate([values[:50_000], values[:50_000], values[50_000:]])
    assert foreground_threshold(skewed, "MR") == pytest.approx(foreground_threshold(skewed + 300, "MR") - 300, abs=1e-6)
    assert foreground_threshold(np.full((4, 4, 4), 7.0), "MR") == 7.0


def test_ct_padding_does_not_hide_the_air():
    padded = head_ct().array.copy()
    padded[:6] = -3024
    assert IntensityScaling.fit(padded, modality="CT") == HU


@pytest.mark.parametrize("array", [np.zeros((5, 5, 5)), np.full((5, 5, 5), 7.5)])
def test_a_constant_image_is_refused(array):
    with pytest.raises(IntensityError, match="constant"):
        IntensityScaling.fit(array, modality="MR")


def test_a_single_bright_voxel_is_foreground():
    array = np.zeros((10, 10, 10), dtype=np.float32)
    array[5, 5, 5] = 100.0
    assert np.argwhere(array > foreground_threshold(array, None)).tolist() == [[5, 5, 5]]


def test_it_travels_as_json():
    assert IntensityScaling.from_dict(HU.to_dict()) == HU
    assert IntensityScaling.from_dict({**HU.to_dict(), "unit": 64 * "U"}).unit == 64 * "U"
    for broken in (
        {},
        {**HU.to_dict(), "kind": "magic"},
        {**HU.to_dict(), "upper": "nan"},
        {**HU.to_dict(), "lower": 9e9},
        {**HU.to_dict(), "unit": 7},
        {**HU.to_dict(), "unit": "H\nU"},
        {**HU.to_dict(), "unit": 65 * "U"},
    ):
        with pytest.raises(IntensityError):
            IntensityScaling.from_dict(broken)


def test_air_is_measured_around_an_mr():
    mr = head_mr().array
    assert IntensityScaling.fit(mr + 40, modality="MR").background == pytest.approx(44, abs=2)
    scaling = IntensityScaling.fit(mr, modality="MR")
    assert 0 < scaling.air < 10
    assert IntensityScaling.from_dict(scaling.to_dict()) == scaling
    cropped = IntensityScaling.fit(np.linspace(100, 900, 1000).reshape(10, 10, 10), modality="MR")
    assert cropped.background == pytest.approx(cropped.air)
    with pytest.raises(IntensityError, match="air"):
        IntensityScaling.from_dict({**scaling.to_dict(), "air": "nan"})


@pytest.mark.parametrize(
    ("shape", "steps"),
    [
        ((40, 30, 20), (1, 1, 1)),
        ((320, 320, 320), (3, 3, 3)),
        ((1280, 1280, 8), (2, 2, 2)),
        # a short axis is kept whole, although the others are strided
        ((1280, 1280, 7), (2, 2, 1)),
    ],
)
def test_large_arrays_are_sampled_evenly(shape, steps):
    array = np.broadcast_to(np.arange(shape[2], dtype=np.int16), shape)
    found = array[even_sample(shape)]
    assert found.shape == tuple(-(-length // step) for length, step in zip(shape, steps, strict=True))
    assert np.array_equal(found[0, 0], array[0, 0, :: steps[2]])


@pytest.mark.parametrize(("value", "expected"), [(-1.5, 100.0), (1.5, 900.0), (0.0, 500.0)])
def test_outputs_beyond_the_range_are_clipped_to_it(value, expected):
    scaling = IntensityScaling("percentile", 100.0, 900.0, "arbitrary units")
    assert scaling.denormalize(np.full((2, 2, 2), value)).tolist() == np.full((2, 2, 2), expected).tolist()


def test_units_are_those_of_the_scaling():
    assert (
        IntensityScaling.fit(np.arange(256.0).reshape(4, 8, 8), modality=None, value_range=(0.0, 255.0)).unit
        == "grey level"
    )
    assert IntensityScaling.fit(head_mr((24, 24, 8)).array, modality="MR").unit == "arbitrary units"
