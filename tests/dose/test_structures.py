"""Targets and organs, without the libraries of the extra ``dose``: places, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from dose.test_grid import GRIDS, HEAD, phantom

from medcyclegan.dose.grid import plan_grid
from medcyclegan.dose.score import _check_organ
from medcyclegan.dose.structures import DEFAULT_RADIUS_MM, Structures, default_target
from medcyclegan.errors import GeometryError, IntensityError


@pytest.mark.parametrize("name", GRIDS)
def test_the_default_target_is_a_sphere_in_the_upper_head(name):
    ct, head, _ = phantom(*GRIDS[name])
    inside, description = default_target(ct, head)
    places = np.argwhere(inside) @ ct.affine[:3, :3].T + ct.affine[:3, 3]
    # The head is an ellipsoid of which the lowest 30 of 150 mm do not count: its center is 6 mm higher without them.
    assert places.mean(axis=0) == pytest.approx(HEAD + np.array([0, 0, 6.0]), abs=1.0)
    volume = inside.sum() * abs(np.linalg.det(ct.affine[:3, :3]))
    assert volume == pytest.approx(4 / 3 * np.pi * DEFAULT_RADIUS_MM**3, rel=0.08)
    assert f"{DEFAULT_RADIUS_MM:.0f} mm radius" in description


def test_masks_that_cannot_be_used_are_refused():
    ct, head, target = phantom(*GRIDS["upright"])
    mask = ct.replace(array=target.astype(np.float32), modality=None)
    assert np.array_equal(Structures.from_volumes(ct, head, mask, {}).target, target)
    with pytest.raises(IntensityError, match="--target: the mask is empty"):
        Structures.from_volumes(ct, head, mask.replace(array=np.zeros(ct.shape, np.float32)), {})
    with pytest.raises(GeometryError, match="--organ stem: a mask of 75x92x80 voxels"):
        Structures.from_volumes(ct, head, None, {"stem": mask.replace(array=mask.array[1:])})
    with pytest.raises(GeometryError, match=r"100\.0% of the target is outside the head"):
        Structures.from_volumes(ct, head, mask.replace(array=(~head).astype(np.float32)), {})
    with pytest.raises(IntensityError, match="non-finite"):
        Structures.from_volumes(ct, head, None, {"stem": mask.replace(array=np.full(ct.shape, np.nan, np.float32))})


def test_an_organ_beyond_the_plan_is_refused():
    ct, head, target = phantom(np.diag([2.0, 2.0, 2.0]), (76, 92, 160))
    grid = plan_grid(ct.replace(array=head), ct.replace(array=target))
    cord = np.zeros(ct.shape, bool)
    cord[36:40, 44:48, :] = True
    with pytest.raises(GeometryError, match=r"--organ cord: \d+% of it is more than 60 mm above or below the target"):
        _check_organ(cord, ct, grid, "cord")
    _check_organ(target, ct, grid, "target")
