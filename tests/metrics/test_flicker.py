import numpy as np
import pytest
from scipy import ndimage

from medcyclegan.errors import GeometryError
from medcyclegan.metrics import flicker_index
from medcyclegan.metrics.flicker import slice_roughness


@pytest.fixture
def smooth():
    noise = np.random.default_rng(0).normal(size=(40, 40, 30))
    return ndimage.gaussian_filter(noise, 2)


def everywhere(array):
    return np.ones(array.shape, bool)


def test_a_ramp_by_hand():
    i, j, k = np.meshgrid(*map(np.arange, (4, 5, 6)), indexing="ij")
    assert slice_roughness(2.0 * i + 2.0 * j + 6.0 * k, everywhere(i)) == pytest.approx(3.0)


def test_an_image_has_no_flicker_beyond_its_own(smooth):
    assert flicker_index(smooth, smooth, everywhere(smooth)) == 0
    inverted = 1000 - 300 * smooth
    assert flicker_index(inverted, smooth, everywhere(smooth)) == pytest.approx(0, abs=1e-6)


def test_slices_of_changing_brightness_flicker(smooth):
    shaken = smooth + np.random.default_rng(1).normal(0, smooth.std() / 4, size=30)
    assert flicker_index(shaken, smooth, everywhere(smooth)) > 0.2


def test_smoothing_across_slices_is_negative(smooth):
    assert flicker_index(ndimage.uniform_filter1d(smooth, 3, axis=2), smooth, everywhere(smooth)) < -0.05


def test_voxels_outside_the_mask_do_not_count(smooth):
    mask = np.zeros(smooth.shape, bool)
    mask[10:30, 10:30] = True
    shaken = np.where(mask, smooth, np.random.default_rng(1).normal(size=smooth.shape))
    assert flicker_index(shaken, smooth, mask) == 0


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 8, 4)])
def test_a_volume_without_neighboring_slices_is_refused(shape):
    flat = np.zeros(shape)
    with pytest.raises(GeometryError, match="flicker needs a volume"):
        flicker_index(flat, flat, everywhere(flat))


def test_equal_slices_have_no_roughness_to_compare_with(smooth):
    equal = np.repeat(smooth[:, :, :1], 5, axis=2)
    assert slice_roughness(equal, everywhere(equal)) == 0
    rounded = equal + 1e-7 * np.random.default_rng(0).normal(size=equal.shape)
    assert slice_roughness(rounded, everywhere(equal)) == 0, "rounding is no change"
    with pytest.raises(GeometryError, match="5 equal slices: flicker needs an input that changes along them"):
        flicker_index(equal, equal, everywhere(equal))


def test_one_value_with_rounding_shows_nothing():
    one = 500 + 1e-5 * np.random.default_rng(0).normal(size=(8, 8, 4)).astype(np.float32)
    mask = np.ones(one.shape, bool)
    one[0, 0, 0] = 0.0
    with pytest.raises(GeometryError, match="flicker needs a volume"):
        flicker_index(one, one, np.where(one == 0, False, mask))
