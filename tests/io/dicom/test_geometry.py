"""Stacks computed from positions: order, affine, gaps and tilt."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medcyclegan.errors import GeometryError
from medcyclegan.io.dicom.geometry import even_step, gap_tolerance_mm, plane_axes, same_orientation, stack_slices

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def heights(*values: float) -> np.ndarray:
    return np.array([(0.0, 0.0, value) for value in values])


def test_an_axial_stack():
    stack = stack_slices(heights(5.0, -1.0, 2.0), AXIAL, (0.7, 0.5))
    assert stack.order == (1, 2, 0)
    np.testing.assert_allclose(stack.distances_mm, (0, 3, 6))
    expected = [[-0.5, 0, 0, 0], [0, -0.7, 0, 0], [0, 0, 3, -1], [0, 0, 0, 1]]
    np.testing.assert_allclose(stack.affine, expected, atol=1e-12)
    assert (stack.tilt_degrees, stack.uneven) == (0, "")
    assert stack.jitter_mm == pytest.approx(0, abs=1e-12)


angles = st.floats(-180, 180)


@settings(max_examples=60, deadline=None)
@given(
    angles=st.tuples(angles, angles, angles),
    spacing=st.tuples(st.floats(0.2, 5), st.floats(0.2, 5), st.floats(0.2, 10)),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    count=st.integers(2, 40),
    seed=st.integers(0, 1000),
)
def test_any_orientation_is_found_again(angles, spacing, origin, count, seed):
    direction = np.eye(3)
    for axis, angle in enumerate(np.radians(angles)):
        turn = np.eye(3)
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turn[a, a], turn[a, b], turn[b, a], turn[b, b] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        direction = turn @ direction
    order = np.random.default_rng(seed).permutation(count)
    positions = np.array(origin) + order[:, None] * spacing[2] * direction[:, 2]
    stack = stack_slices(positions, [*direction[:, 0], *direction[:, 1]], (spacing[1], spacing[0]))
    assert stack.order == tuple(np.argsort(order))
    expected = np.diag([-1, -1, 1]) @ (direction * spacing)
    np.testing.assert_allclose(stack.affine[:3, :3], expected, atol=1e-6)
    np.testing.assert_allclose(stack.affine[:3, 3], np.array(origin) * (-1, -1, 1), atol=1e-6)
    assert stack.uneven == ""
    assert np.linalg.det(stack.affine[:3, :3]) > 0


@pytest.mark.parametrize(
    ("gaps", "said"),
    [
        ((1, 1, 2, 1), "slice spacing varies from 1.0 to 2.0 mm (a slice is missing near z = 3.0 mm)"),
        ((1, 2), "slice spacing varies from 1.0 to 2.0 mm (a slice is missing near z = 2.0 mm)"),
        ((1, 3, 1, 2, 1), "slice spacing varies from 1.0 to 3.0 mm (3 slices are missing, the first near z = 2.5 mm)"),
        ((5, 5, 2.5, 2.5), "slice spacing varies from 2.5 to 5.0 mm (2 slices are missing, the first near z = 2.5 mm)"),
        ((4, 4, 1.08, 4), "slice spacing varies from 1.08 to 4.0 mm (it changes near z = 8.5 mm)"),
        ((1, 1.1, 1, 1), "slice spacing varies from 1.0 to 1.1 mm (it changes near z = 1.6 mm)"),
        ((1, 1.015, 1, 0.99), ""),
        ((7.07, 6.96, 6.97, 7.06), "slice spacing varies from 6.96 to 7.07 mm (it changes near z = 3.5 mm)"),
    ],
)
def test_gaps_are_described(gaps, said):
    assert stack_slices(heights(*np.cumsum([0, *gaps])), AXIAL, (1, 1)).uneven == said


def test_a_slow_drift_of_the_spacing_is_no_even_stack():
    gaps = np.where(np.arange(100) < 50, 4.985, 5.015)
    assert stack_slices(heights(*np.cumsum([0, *gaps])), AXIAL, (1, 1)).uneven.startswith("slice spacing varies")


def test_a_tilt_is_the_angle_between_normal_and_table():
    cosine, sine = np.cos(np.radians(15)), np.sin(np.radians(15))
    stack = stack_slices(heights(0, 3, 6), (1, 0, 0, 0, cosine, sine), (1, 1))
    assert stack.tilt_degrees == pytest.approx(15)
    np.testing.assert_allclose(stack.affine[:3, 2], (0, 0, 3))
    np.testing.assert_allclose(stack.distances_mm, np.array((0, 3, 6)) * cosine)


def test_rounded_cosines_make_no_tilt():
    positions = heights(0, 3, 6) + np.array([(0, 0, 0), (0.0002, 0, 0), (0.0004, 0, 0)])
    assert stack_slices(positions, AXIAL, (1, 1)).tilt_degrees == 0


def test_a_slice_off_the_line():
    positions = heights(0, 3, 6, 9)
    positions[1, 0] = 0.06
    assert "a slice is 0.06 mm off the line of the others (near z = 3.0 mm)" in (
        stack_slices(positions, AXIAL, (1, 1)).uneven
    )
    positions[1, 0] = 0.6
    with pytest.raises(GeometryError, match=r"0.6 mm off the line"):
        stack_slices(positions, AXIAL, (1, 1))


def test_slices_side_by_side_are_no_stack():
    with pytest.raises(GeometryError, match=r"next to each other"):
        stack_slices(np.array([(0.0, 0, 0), (30, 0, 0), (60, 0, 0)]), AXIAL, (1, 1))


@pytest.mark.parametrize(
    "orientation", [(2, 0, 0, 0, 1, 0), (1, 0, 0, 0.6, 0.8, 0), (0, 0, 0, 0, 1, 0), (1, 0, 0, 1, 0, 0)]
)
def test_invalid_cosines_are_refused(orientation):
    with pytest.raises(GeometryError, match=r"not two perpendicular unit vectors"):
        plane_axes(orientation)


def test_three_digits_are_enough_for_cosines():
    along_row, along_column, normal = plane_axes((0.609, 0.791, 0.064, -0.143, 0.188, -0.972))
    for axis in (along_row, along_column, normal):
        assert np.linalg.norm(axis) == pytest.approx(1)


def test_orientation_tolerance():
    assert same_orientation(AXIAL, (1, 0, 1e-6, 0, 1, 0))
    assert not same_orientation(AXIAL, (0.9998, 0.02, 0, -0.02, 0.9998, 0))


@pytest.mark.parametrize(("spacing", "tolerance"), [(0.1, 0.005), (1, 0.02), (4, 0.02), (10, 0.05)])
def test_gap_tolerance(spacing, tolerance):
    assert gap_tolerance_mm(spacing) == pytest.approx(tolerance)


@pytest.mark.parametrize(
    ("distances", "step", "count"),
    [((0, 1, 2, 4, 5), 1, 6), ((0, 2.5, 3.75, 5), 1.25, 5), ((0, 1, 3.5), 1, 4), ((0, 4.002, 5.083, 12.08), 1.081, 12)],
)
def test_an_even_grid_stays_within_the_stack(distances, step, count):
    found = even_step(np.array(distances, dtype=float))
    assert found[0] == pytest.approx(step, abs=0.003)
    assert found[1] == count
    assert (found[1] - 1) * found[0] <= distances[-1] + 1e-9


def test_negative_pixel_spacing():
    with pytest.raises(GeometryError, match=r"not positive"):
        stack_slices(heights(0, 1), AXIAL, (1, -1))
