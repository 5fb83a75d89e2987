"""The grid of a plan: along the patient's axes, and the same place for every affine of the CT."""

from __future__ import annotations

import numpy as np
import pytest

from medcyclegan.dose.grid import SPACING_MM, from_itk, plan_grid, to_itk
from medcyclegan.dose.score import _hu_on_plan, _on_plan
from medcyclegan.volume import Volume

#: The center of the target in RAS+ mm, and of the head.
TARGET, HEAD = np.array([25.0, -15.0, 10.0]), np.array([4.0, -6.0, 8.0])


def rotation(degrees: float, axis: int) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned = np.eye(3)
    a, b = (n for n in range(3) if n != axis)
    turned[a, a] = turned[b, b] = c
    turned[a, b], turned[b, a] = -s, s
    return turned


def phantom(matrix: np.ndarray, shape: tuple[int, int, int]) -> tuple[Volume, np.ndarray, np.ndarray]:
    """Return a CT whose tissue increases to the right, its head and its target, on a grid around the head."""
    affine = np.eye(4)
    affine[:3, :3] = matrix
    affine[:3, 3] = HEAD - matrix @ ((np.array(shape) - 1) / 2)
    places = np.moveaxis(np.indices(shape), 0, -1) @ matrix.T + affine[:3, 3]
    head = (((places - HEAD) / [70, 85, 75]) ** 2).sum(-1) < 1
    target = ((places - TARGET) ** 2).sum(-1) < 15**2
    array = np.where(head, places[..., 0] + 0.5 * places[..., 1], -1000).astype(np.float32)
    return Volume(array, affine, modality="CT"), head, target


GRIDS = {
    "upright": (np.diag([2.0, 2.0, 2.0]), (76, 92, 80)),
    "LPS": (np.diag([-2.0, -2.0, 2.0]), (76, 92, 80)),
    "permuted": (np.array([[0, 0, 2.0], [-2.0, 0, 0], [0, 2.0, 0]]), (92, 80, 76)),
    "anisotropic": (np.diag([1.5, -2.5, 4.0]), (104, 76, 44)),
    "oblique": (rotation(17, 0) @ rotation(-9, 2) @ np.diag([2.0, 1.5, 3.0]), (90, 130, 72)),
}


@pytest.mark.parametrize("name", GRIDS)
def test_structures_and_values_are_in_their_place(name):
    ct, head, target = phantom(*GRIDS[name])
    grid = plan_grid(ct.replace(array=head), ct.replace(array=target))
    assert grid.orientation == "LPS"
    assert grid.spacing_mm == (SPACING_MM,) * 3
    inside = _on_plan(target, ct, grid, "the target")
    places = np.argwhere(inside) @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    assert places.mean(axis=0) == pytest.approx(TARGET, abs=0.5)
    assert inside.sum() * SPACING_MM**3 == pytest.approx(4 / 3 * np.pi * 15**3, rel=0.06)
    values = _hu_on_plan(ct.array, ct, grid)[inside]
    assert values == pytest.approx(places[:, 0] + 0.5 * places[:, 1], abs=0.05)
    image = to_itk(inside.astype(np.uint8), grid)
    index = np.argwhere(inside)[0].tolist()
    left_back_up = image.TransformIndexToPhysicalPoint(index)
    assert left_back_up == pytest.approx(places[0] * [-1, -1, 1])
    assert np.array_equal(from_itk(image), inside)


def test_the_grid_is_cut_above_and_below_the_target():
    ct, head, target = phantom(np.diag([2.0, 2.0, 2.0]), (76, 92, 80))
    small = ((np.argwhere(target) @ ct.affine[:3, :3].T + ct.affine[:3, 3] - TARGET) ** 2).sum(-1) < 5**2
    target[tuple(np.argwhere(target)[~small].T)] = False
    grid = plan_grid(ct.replace(array=head), ct.replace(array=target))
    low, high = (grid.affine[2, 3] + n * SPACING_MM for n in (0, grid.shape[2] - 1))
    assert low == pytest.approx(10 - 5 - 60 - 6, abs=SPACING_MM)
    assert high == pytest.approx(10 + 5 + 60 + 6, abs=SPACING_MM)
