"""Random affines through NIfTI; tests/benchmarks/geometry.py prints the figures of 200, and of real headers."""

import numpy as np
import pytest
from support.geometry_figures import measure, random_affine

from medcyclegan.volume import Volume


@pytest.mark.parametrize(("planes", "seeds"), [("axial", range(16)), ("three", range(16, 24))])
def test_random_affines_keep_every_voxel_in_its_place(tmp_path, planes, seeds):
    figures = [measure(seed, tmp_path, planes) for seed in seeds]
    assert max(figure.grid_mm for figure in figures) == 0
    assert max(figure.inside_mm for figure in figures) < 1e-3


def test_the_affines_are_of_all_kinds():
    grids = [Volume(np.zeros((2, 2, 2)), random_affine(np.random.default_rng(seed))) for seed in range(200)]
    left_handed = sum(np.linalg.det(grid.affine) < 0 for grid in grids)
    assert 70 < left_handed < 130
    assert 40 < sum(grid.shear_degrees > 1 for grid in grids) < 90
    assert len({grid.orientation for grid in grids}) > 30
    assert sum(grid.oblique_degrees > 5 for grid in grids) > 150
