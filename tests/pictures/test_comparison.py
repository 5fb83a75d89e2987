"""Comparisons: each volume in its window, the error where it is, planes in their proportions."""

from __future__ import annotations

import numpy as np

from medcyclegan.pictures import comparison_picture
from medcyclegan.volume import Volume

AFFINE = np.diag([2.0, 2.0, 4.0, 1.0])


def picture(shape=(40, 50, 20), at=(30, 10, 5)):
    grey = Volume(np.full(shape, 100.0, np.float32), AFFINE)
    error = np.zeros(shape, np.float32)
    error[at[0] - 3 : at[0] + 4, at[1] - 3 : at[1] + 4, max(at[2] - 1, 0) : at[2] + 2] = 10
    return comparison_picture(
        {"fake": grey, "reference": grey.replace(array=grey.array * 2)},
        grey.replace(array=error),
        limits={"fake": (0.0, 200.0), "reference": (0.0, 200.0)},
        error_limit=10.0,
        unit="HU",
    )


def test_a_row_a_plane_and_a_column_a_volume():
    pixels = np.asarray(picture()).astype(int)
    columns = np.array_split(np.arange(pixels.shape[1]), 3)
    grey = (pixels[:, columns[0]] == 128).all(axis=2)
    white = (pixels[:, columns[1]] == 255).all(axis=2)
    assert grey.mean() > 0.5
    assert white.mean() > 0.5
    rows_with_grey = np.flatnonzero(grey.mean(axis=1) > 0.5)
    assert np.count_nonzero(np.diff(rows_with_grey) > 1) == 2, "three planes, each a block of rows"


def test_the_planes_cut_through_the_error():
    """A white spot in each plane, on the patient's right and in front where the display has them: left, top."""
    pixels = np.asarray(picture(at=(30, 40, 15))).astype(int)
    heat = (pixels[:, -pixels.shape[1] // 3 :] == 255).all(axis=2)
    rows, columns = np.nonzero(heat)
    blocks = np.split(np.unique(rows), np.flatnonzero(np.diff(np.unique(rows)) > 10) + 1)
    spots = [block for block in blocks if len(block) > 3]
    axial = columns[np.isin(rows, spots[0])]
    assert len(spots) >= 3
    assert axial.mean() < heat.shape[1] / 2


def test_planes_of_one_line_are_left_out():
    assert picture(shape=(40, 50, 1), at=(20, 20, 0)).height < picture().height / 2


def test_a_line_of_voxels_is_shown_all_the_same():
    line = Volume(np.arange(9, dtype=np.float32).reshape(9, 1, 1), AFFINE)
    limits = {"fake": (0.0, 9.0)}
    shown = comparison_picture({"fake": line}, line, limits=limits, error_limit=9.0, unit="HU")
    assert np.asarray(shown).max() == 255
