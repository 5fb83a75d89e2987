"""Order, gaps, tilt and affine of a stack of slices, from positions and orientations alone.

Pure numpy. Positions and directions come in as DICOM gives them (LPS+, mm; PS3.3 C.7.6.2.1.1), affines go out in RAS+.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medcyclegan.errors import GeometryError
from medcyclegan.volume import LPS_RAS

__all__ = ["SAME_PLACE_MM", "Stack", "even_step", "gap_tolerance_mm", "plane_axes", "same_orientation", "stack_slices"]

Vector = NDArray[np.float64]

#: Slices closer than this are at the same position.
SAME_PLACE_MM = 0.01
#: The sign of each world axis.
_LPS_TO_RAS = np.diag(LPS_RAS)[:3]
#: Direction cosines are written with at least about three digits; a larger error means damage.
_UNIT_TOLERANCE = 2e-3
#: Two slices whose cosines differ by less are parallel.
_PARALLEL_TOLERANCE = 1e-4
#: A sideways drift over the whole stack below this is rounding in the header, not a tilt.
_NO_DRIFT_MM = 1e-3


@dataclasses.dataclass(frozen=True, eq=False)
class Stack:
    """Parallel slices, sorted along their normal.

    ``order``
        Indices into the slices as given, so that the position along the normal ascends.
    ``distances_mm``
        ``(K,)``: the distance of each sorted slice from the first, along the normal.
    ``affine``
        Voxel ``(column, row, slice)`` to RAS+ mm, with the mean step from slice to slice.
    ``tilt_degrees``
        The angle between the stacking direction and the normal: a tilted gantry's, else 0.
    ``uneven``
        A description of uneven gaps; empty if they are even. With uneven gaps the affine is only approximate.
    ``jitter_mm``
        The largest distance of a slice from its position in the affine.
    """

    order: tuple[int, ...]
    distances_mm: Vector
    affine: Vector
    tilt_degrees: float
    uneven: str
    jitter_mm: float


def plane_axes(orientation: Sequence[float]) -> tuple[Vector, Vector, Vector]:
    """Return the unit directions (LPS+) in which columns and rows grow, and the slice's normal.

    Raises :class:`~medcyclegan.errors.GeometryError` unless the two are unit vectors and perpendicular.
    """
    cosines = np.array(orientation, dtype=np.float64).reshape(2, 3)
    lengths = np.linalg.norm(cosines, axis=1)
    if np.abs(lengths - 1).max() > _UNIT_TOLERANCE or abs(cosines[0] @ cosines[1]) > _UNIT_TOLERANCE:
        raise GeometryError(
            f"ImageOrientationPatient {_plain(orientation)} is not two perpendicular unit vectors",
            remedy="the header is damaged, export the series again",
        )
    along_row, along_column = cosines / lengths[:, None]
    normal = np.cross(along_row, along_column)
    return along_row, along_column, normal / np.linalg.norm(normal)


def same_orientation(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether two slices are parallel, with the same in-plane axes."""
    return bool(np.abs(np.subtract(first, second)).max() <= _PARALLEL_TOLERANCE)


def gap_tolerance_mm(spacing_mm: float) -> float:
    """Return the tolerated difference of a gap from the mean: 0.5 %, at least 0.02 mm, at most 5 %."""
    return min(max(0.02, 0.005 * spacing_mm), 0.05 * spacing_mm)


def stack_slices(
    positions: NDArray[np.float64],
    orientation: Sequence[float],
    pixel_spacing: Sequence[float],
    single_spacing_mm: float = 1.0,
) -> Stack:
    """Sort slices along their normal and return their geometry.

    ``positions``
        ``(K, 3)``: ImagePositionPatient of each slice, ``K`` different positions.
    ``pixel_spacing``
        Between rows, between columns, in mm (PixelSpacing).
    ``single_spacing_mm``
        The third spacing of a single slice.

    Raises :class:`~medcyclegan.errors.GeometryError` if no affine describes the stack, even with uneven gaps.
    """
    along_row, along_column, normal = plane_axes(orientation)
    if min(pixel_spacing) <= 0:
        raise GeometryError(f"PixelSpacing {_plain(pixel_spacing)} is not positive", remedy="export the series again")
    heights = positions @ normal
    order = np.argsort(heights, kind="stable")
    placed = positions[order]
    distances = heights[order] - heights[order[0]]
    step, uneven = normal * single_spacing_mm, ""
    if len(order) > 1:
        step, off_line = _mean_step(placed, distances, normal, 0.1 * min(pixel_spacing))
        uneven = _uneven(distances, placed, normal) or off_line
    matrix = np.column_stack([along_row * pixel_spacing[1], along_column * pixel_spacing[0], step])
    affine = np.eye(4)
    affine[:3, :3] = matrix * _LPS_TO_RAS[:, None]
    affine[:3, 3] = placed[0] * _LPS_TO_RAS
    expected = placed[0] + np.arange(len(order))[:, None] * step
    return Stack(
        order=tuple(int(index) for index in order),
        distances_mm=distances,
        affine=affine,
        tilt_degrees=_angle(step, normal),
        uneven=uneven,
        jitter_mm=float(np.linalg.norm(placed - expected, axis=1).max()),
    )


def even_step(distances_mm: Vector) -> tuple[float, int]:
    """Return the smallest gap of a stack and the number of slices of an even grid with it, within the stack.

    A stack whose gaps are multiples of the smallest one keeps both ends exactly.
    """
    smallest, extent = float(np.diff(distances_mm).min()), float(distances_mm[-1])
    whole = round(extent / smallest)
    if abs(extent / whole - smallest) <= gap_tolerance_mm(smallest) / 10:
        return extent / whole, whole + 1
    return smallest, int(extent / smallest) + 1


def _mean_step(placed: Vector, distances: Vector, normal: Vector, most_mm: float) -> tuple[Vector, str]:
    """Return the mean step between slices (LPS+ mm) and a description of the deviation from a line, if any.

    ``most_mm`` is the largest distance of a slice from the line of the others; a larger one is refused.
    """
    extent = float(distances[-1])
    if extent <= SAME_PLACE_MM * (len(placed) - 1):
        raise GeometryError("the slices are next to each other in one plane, not in a stack", remedy="name one file")
    allowed = gap_tolerance_mm(extent / (len(placed) - 1))
    line = placed[-1] - placed[0]
    if np.linalg.norm(line - normal * extent) <= _NO_DRIFT_MM:
        line = normal * extent
    off = np.linalg.norm(placed - placed[0] - distances[:, None] / extent * line, axis=1)
    worst = int(off.argmax())
    what = f"a slice is {off[worst]:.3g} mm off the line of the others (near {_where(placed[worst], normal)})"
    if off[worst] > max(allowed, most_mm):
        raise GeometryError(f"{what}, so no affine describes the stack", remedy="export the series again")
    return line / (len(placed) - 1), what if off[worst] > allowed else ""


def _uneven(distances: Vector, placed: Vector, normal: Vector) -> str:
    """Describe uneven gaps; empty if they are even."""
    if len(distances) < 3:
        return ""
    gaps = np.diff(distances)
    mean = float(gaps.mean())
    drift = np.abs(distances - np.arange(len(distances)) * mean).max()
    if np.abs(gaps - mean).max() <= gap_tolerance_mm(mean) and drift <= 2 * gap_tolerance_mm(mean):
        return ""
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    wide = gaps > 1.5 * usual
    hole = int(np.argmax(wide)) if wide.any() else int(np.abs(gaps - usual).argmax())
    place = _where((placed[hole] + placed[hole + 1]) / 2, normal)
    if not wide.any() or np.abs(gaps[~wide] - usual).max() > gap_tolerance_mm(usual):
        return f"slice spacing varies from {_mm(gaps.min())} to {_mm(gaps.max())} mm (it changes near {place})"
    missing = int(np.rint(gaps[wide] / usual - 1).sum())
    what = "a slice is missing" if missing == 1 else f"{missing} slices are missing, the first"
    return f"slice spacing varies from {_mm(gaps.min())} to {_mm(gaps.max())} mm ({what} near {place})"


def _where(position: Vector, normal: Vector) -> str:
    """Name a place by the patient axis (RAS+) that is closest to the normal, such as ``z = -84.0 mm``."""
    axis = int(np.abs(normal).argmax())
    return f"{'xyz'[axis]} = {(position * _LPS_TO_RAS)[axis] + 0.0:.1f} mm"


def _angle(first: Vector, second: Vector) -> float:
    sine = np.linalg.norm(np.cross(first, second)) / np.linalg.norm(first)
    return float(np.degrees(np.arcsin(np.clip(sine, 0.0, 1.0))))


def _mm(value: float) -> str:
    text = f"{value:.3f}".rstrip("0")
    return text + "0" if text.endswith(".") else text


def _plain(values: Sequence[float]) -> str:
    return "\\".join(f"{value:g}" for value in values)
