"""Where a NIfTI file's voxels are: sform, qform, pixdim and units, and what to do where they disagree."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from medcyclegan.errors import GeometryError
from medcyclegan.io.axes import axis_directions
from medcyclegan.io.nifti.header import NiftiLayout
from medcyclegan.io.notes import Notes

__all__ = ["SAME_PLACE_VOXELS", "corner_distance", "find_affine"]

#: Two affines that differ by less than this many voxels at every corner of the grid are the same
#: (a qform stores a rotation near 180 degrees no better).
SAME_PLACE_VOXELS = 0.05
#: Millimetres in the unit that the lower three bits of xyzt_units name; 0, "not stated", is taken as mm.
_UNIT_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_UNIT_NAME = {1: "metres", 3: "micrometres"}
#: Codes of sform and qform: 0 unknown, 1 scanner, 2 aligned, 3 Talairach, 4 MNI 152, 5 another template.
_LAST_PLACE_CODE = 5
_LARGEST_SPACING_MM = 200.0
#: No place is so far away in any unit; keeps damaged numbers from overflowing below.
_LARGEST_ELEMENT = 1e12


def _singular(name: str) -> GeometryError:
    return GeometryError(
        f"{name}: the affine is singular, huge or not finite, so voxels have no position in space",
        remedy="repair the header's sform or qform",
    )


def find_affine(name: str, layout: NiftiLayout, notes: Notes, assume_axes: str | None = None) -> NDArray[np.float64]:
    """Return voxel to RAS+ mm, 4 x 4: the sform, else the qform.

    Where the header has neither (both codes are 0), only ``assume_axes``, such as ``"LAS"``, says which axis points
    where; the spacing is then that of pixdim, and the grid's centre is 0, 0, 0. Units of metres or micrometres are
    converted to mm, with a warning. Raises :class:`~medcyclegan.errors.GeometryError` for a place that the header
    does not fix.
    """
    header = layout.header
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    for field, code in (("sform_code", sform_code), ("qform_code", qform_code)):
        if not 0 <= code <= _LAST_PLACE_CODE:
            raise GeometryError(
                f"{name}: {field} is {code}", remedy="the codes go from 0 to 5, so the header is damaged"
            )
    if sform_code:
        affine = _complete_slice(name, _finite(name, header.get_sform()), layout, notes)
        _compare_with_qform(affine, layout, notes)
        _compare_with_pixdim(affine, layout, notes)
    elif qform_code:
        affine = _complete_slice(name, _qform(name, header), layout, notes)
    else:
        affine = _assumed_affine(name, layout, assume_axes, notes)
    return _to_mm(name, affine, header, notes)


def _to_mm(name: str, affine: NDArray[np.float64], header: Any, notes: Notes) -> NDArray[np.float64]:
    unit = int(header["xyzt_units"]) & 7
    if unit not in _UNIT_MM:
        raise GeometryError(
            f"{name}: the spatial unit in xyzt_units is {unit}",
            remedy=("it is meter (1), millimeter (2) or micrometer (3), so the header is damaged"),
        )
    affine = affine.copy()
    affine[:3] *= _UNIT_MM[unit]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if unit in _UNIT_NAME:
        notes.warn(
            f"its header counts in {_UNIT_NAME[unit]} (xyzt_units), which many programs ignore: "
            f"the spacing is {_millimetres(spacing)}"
        )
    if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise _singular(name)
    if spacing.max() > _LARGEST_SPACING_MM:
        raise GeometryError(
            f"{name}: a spacing of {_millimetres(spacing)}",
            remedy=(
                f"no scan has voxels beyond {_LARGEST_SPACING_MM:g} mm, "
                "correct xyzt_units, pixdim or the affine in the header"
            ),
        )
    return affine


def _millimetres(spacing: NDArray[np.float64]) -> str:
    return " x ".join(f"{v:.4g}" for v in spacing) + " mm"


def _finite(name: str, affine: Any) -> NDArray[np.float64]:
    if not np.isfinite(affine).all() or np.abs(affine).max() > _LARGEST_ELEMENT:
        raise _singular(name)
    return np.array(affine, dtype=np.float64)


def _qform(name: str, header: Any) -> NDArray[np.float64]:
    header = header.copy()
    if header["pixdim"][0] == 0:  # the standard: 0 is read as 1
        header["pixdim"][0] = 1
    try:
        with np.errstate(all="ignore"):  # damaged numbers overflow; the result is checked
            return _finite(name, header.get_qform())
    except (HeaderDataError, ValueError) as error:
        raise GeometryError(
            f"{name}: its qform is not valid ({error}) and no sform is set", remedy="repair the header's sform or qform"
        ) from error


def _assumed_affine(name: str, layout: NiftiLayout, assume_axes: str | None, notes: Notes) -> NDArray[np.float64]:
    """Return the affine of a header with neither sform nor qform: pixdim's spacing along the stated axes."""
    zooms = [float(v) for v in layout.header["pixdim"][1:4]]
    zooms = [1.0 if n == 1 and not z > 0 else z for n, z in zip(layout.grid, zooms, strict=True)]
    if not all(z > 0 for z in zooms):
        raise GeometryError(
            f"{name}: pixdim is {zooms} and neither sform nor qform is set",
            remedy=("a spacing is above 0 mm, repair the header's pixdim"),
        )
    if assume_axes is None:
        raise GeometryError(
            f"{name}: sform_code and qform_code are 0, so the header does not say which axis points where (left and "
            "right may be exchanged)",
            remedy=(
                "set its sform, or pass --assume-axes LAS if its axes point to the left, anterior "
                "and superior, as most programs assume"
            ),
            options={"assume_axes": "LAS"},
        )
    notes.warn(
        f"sform_code and qform_code are 0: the axes are taken as {assume_axes} (--assume-axes), the spacing from "
        "pixdim, the grid's centre as 0"
    )
    affine = np.eye(4)
    affine[:3, :3] = axis_directions(assume_axes) * zooms
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(layout.grid) - 1) / 2)
    return _finite(name, affine)


def _complete_slice(name: str, affine: NDArray[np.float64], layout: NiftiLayout, notes: Notes) -> NDArray[np.float64]:
    """Complete the affine of a single slice that lacks the third axis: perpendicular, pixdim or 1 mm thick."""
    if layout.grid[2] != 1 or affine[:3, 2].any():
        return affine
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    length = np.linalg.norm(normal)
    if not length > 0:
        raise _singular(name)
    stated = float(layout.header["pixdim"][3])
    thickness = stated if math.isfinite(stated) and stated > 0 else 1.0
    notes.warn(f"a single slice without a third axis in its affine: taken as perpendicular, {thickness:g} thick")
    affine = affine.copy()
    affine[:3, 2] = normal / length * thickness
    return affine


def _compare_with_qform(affine: NDArray[np.float64], layout: NiftiLayout, notes: Notes) -> None:
    header = layout.header
    if int(header["qform_code"]) == 0:
        return
    try:
        qform = _qform("", header)
    except GeometryError:
        notes.warn("its qform is not valid: the sform is used, a program that prefers the qform may fail")
        return
    distance = corner_distance(affine, qform, layout.grid)
    if distance <= SAME_PLACE_VOXELS:
        return
    sentence = f"sform and qform differ by up to {distance:.3g} voxels: the sform is used, as the standard says"
    if int(header["sform_code"]) == int(header["qform_code"]):
        notes.warn(sentence)
    else:
        notes.info(f"{sentence} (their codes differ, so they may)")


def _compare_with_pixdim(affine: NDArray[np.float64], layout: NiftiLayout, notes: Notes) -> None:
    stated = np.array(layout.header["pixdim"][1:4], dtype=np.float64)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    long_axes = np.array(layout.grid) > 1
    if not np.allclose(stated[long_axes], spacing[long_axes], rtol=1e-3, atol=0):
        notes.warn(
            f"pixdim says {' x '.join(f'{v:.4g}' for v in stated)} where the sform's spacing is "
            f"{' x '.join(f'{v:.4g}' for v in spacing)}: the sform is used"
        )


def corner_distance(first: NDArray[np.float64], second: NDArray[np.float64], shape: tuple[int, int, int]) -> float:
    """Return the largest distance, in voxels of ``first``, between the corners of a grid under two affines.

    Both affines are finite; an axis of length 1 does not count.
    """
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) if n > 1 else (0.0,) for n in shape])).reshape(3, -1)
    difference = (second - first)[:3] @ np.vstack([corners, np.ones(corners.shape[1])])
    return float(np.linalg.norm(np.linalg.pinv(first[:3, :3]) @ difference, axis=0).max())
