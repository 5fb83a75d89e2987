"""Resampling to even and upright grids keeps linear values linear and invents nothing outside the stack."""

from __future__ import annotations

import numpy as np
import pytest
from support import phantoms

from medcyclegan.errors import ReadError
from medcyclegan.io.dicom.read.resample import resample_even, resample_upright
from medcyclegan.volume import Volume

BIG = 10**9


@pytest.mark.parametrize("heights", [(0, 1, 2, 4, 5), (0, 1, 2.5, 3.25), (0, 0.4, 3.0), (0, 1.0)])
@pytest.mark.parametrize("lean", [0.0, 12.0])
def test_even(heights, lean):
    affine = phantoms.make_affine("LPS", (0.7, 0.9, 1.0), rotation_degrees=(4, 5, 6), shear=lean)
    stored = np.concatenate(
        [
            phantoms.linear_values((6, 5, 1), affine @ np.vstack([np.eye(4)[:2], [0, 0, 1, h], [0, 0, 0, 1]]))
            for h in heights
        ],
        axis=2,
    )
    mean = affine.copy()
    mean[:3, 2] *= heights[-1] / (len(heights) - 1)
    along_normal = np.array(heights) * np.cos(np.radians(lean))
    array, place = resample_even(stored, mean, along_normal, BIG)
    assert array.dtype == np.float32
    assert phantoms.linear_error(Volume(array, place)) < 1e-3
    np.testing.assert_allclose(place[:3, 3], affine[:3, 3])
    smallest = np.diff(heights).min()
    assert place[:3, 2] == pytest.approx(affine[:3, 2] * smallest, abs=1e-6)
    assert array.shape[2] == int(heights[-1] / smallest + 1e-9) + 1


def test_even_keeps_stored_slices_that_are_on_the_grid():
    stored = np.random.default_rng(0).normal(size=(4, 3, 3)).astype(np.float32)
    array, _ = resample_even(stored, np.diag([1, 1, 1.5, 1.0]), np.array([0.0, 1.0, 3.0]), BIG)
    np.testing.assert_array_equal(array[..., [0, 1, 3]], stored)
    np.testing.assert_allclose(array[..., 2], (stored[..., 1] + stored[..., 2]) / 2, rtol=1e-6)


@pytest.mark.parametrize("degrees", [-20.0, -2.0, 15.0])
def test_upright(degrees):
    affine = phantoms.make_affine("LPS", (0.7, 0.9, 2.5), rotation_degrees=(degrees, 0, 0))
    affine[:3, 2] = (0, 0, 2.5)
    stored = phantoms.linear_values((6, 20, 9), affine)
    array, place, outside = resample_upright(stored, affine, BIG)
    upright = Volume(array, place)
    assert outside == stored.min()
    assert upright.shear_degrees < 1e-9
    assert upright.oblique_degrees < 1e-9
    np.testing.assert_allclose(upright.spacing_mm, (0.7, 0.9, 2.5))
    voxels = np.array([*np.indices(array.shape).reshape(3, -1), np.ones(array.size)])
    places = (np.linalg.inv(affine) @ place @ voxels)[:3].T
    inside = (np.abs(places - (np.array(stored.shape) - 1) / 2) < (np.array(stored.shape) - 1) / 2 + 1e-6).all(axis=1)
    expected = phantoms.linear_values(array.shape, place).ravel()
    assert np.abs(array.ravel() - expected)[inside].max() < 1e-3
    assert set(np.unique(array.ravel()[~inside])) == {np.float32(outside)}
    # every stored corner lies within the grid, and the grid is no larger than that takes
    corners = np.array([[i, j, k, 1] for i in (0, 5) for j in (0, 19) for k in (0, 8)]).T
    placed = (np.linalg.inv(place) @ affine @ corners)[:3]
    assert (placed.min(axis=1) > -1e-6).all()
    assert (placed.min(axis=1) < 1).all()
    assert (placed.max(axis=1) < np.array(array.shape) - 1 + 1e-6).all()
    assert (placed.max(axis=1) > np.array(array.shape) - 2).all()


def test_a_stack_that_leans_both_ways():
    affine = phantoms.make_affine("LPS", (0.7, 0.9, 2.5))
    affine[:3, 2] = (0.4, 0.8, 2.3)
    stored = phantoms.linear_values((8, 9, 10), affine)
    array, place, _ = resample_upright(stored, affine, BIG)
    assert Volume(array, place).shear_degrees < 1e-6
    centre = np.linalg.inv(place) @ affine @ (3.5, 4, 4.5, 1)
    i, j, k = np.rint(centre[:3]).astype(int)
    expected = phantoms.linear_values(array.shape, place)[i, j, k]
    assert array[i, j, k] == pytest.approx(expected, abs=1e-3)


def test_the_limit_counts():
    affine = phantoms.make_affine("LPS", (0.7, 0.9, 2.5), shear=20)
    with pytest.raises(ReadError, match=r"resampled it would have .* --max-voxels"):
        resample_upright(np.zeros((6, 20, 9)), affine, 1080)
