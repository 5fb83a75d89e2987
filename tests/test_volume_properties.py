"""What holds of any volume: its axis codes, spacing and angles, and the sum of its content."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.phantoms import make_affine
from support.strategies import AXCODES, affines, angles, shapes

from medcyclegan.volume import Volume


@given(affine=affines())
def test_axis_codes_are_those_of_nibabel(affine):
    assert Volume(np.zeros((2, 3, 4)), affine).orientation == "".join(nib.aff2axcodes(affine))


@given(affine=affines(), scale=st.floats(0.05, 20.0))
def test_angles_do_not_depend_on_the_spacing(affine, scale):
    one, other = Volume(np.zeros((2, 3, 4)), affine), Volume(np.zeros((2, 3, 4)), affine * [scale, scale, scale, 1])
    assert other.spacing_mm == pytest.approx([scale * mm for mm in one.spacing_mm])
    assert other.shear_degrees == pytest.approx(one.shear_degrees, abs=1e-4)
    # arccos is steep near 1: a difference of 1e-15 is one of 2e-6 degrees
    assert other.oblique_degrees == pytest.approx(one.oblique_degrees, abs=1e-4)
    assert 0 <= one.oblique_degrees <= 54.74


@given(codes=st.sampled_from(AXCODES), turns=st.tuples(angles, angles, angles), lean=st.floats(-60.0, 60.0))
def test_the_shear_is_the_tilt_regardless_of_the_axes(codes, turns, lean):
    affine = make_affine(codes, (0.7, 1.1, 4.0), rotation_degrees=turns, shear=lean)
    assert Volume(np.zeros((2, 2, 2)), affine).shear_degrees == pytest.approx(abs(lean), abs=1e-5)


@given(shape=shapes, affine=affines(), seed=st.integers(0, 99), data=st.data())
def test_the_sum_depends_on_values_and_places(shape, affine, seed, data):
    array = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    whole = Volume(array, affine).content_sha256()
    assert Volume(np.asfortranarray(array), affine).content_sha256() == whole, "the order in memory does not count"
    place = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    changed = array.copy()
    changed[place] = np.nextafter(changed[place], np.float32(np.inf))
    assert Volume(changed, affine).content_sha256() != whole
    moved = affine.copy()
    moved[0, 3] = np.nextafter(moved[0, 3], np.inf)
    assert Volume(array, moved).content_sha256() != whole
