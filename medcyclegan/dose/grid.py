"""The grid of a plan: cubic voxels along the patient's axes, around the head and near the target."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from medcyclegan.volume import Volume

__all__ = ["BEYOND_TARGET_MM", "SPACING_MM", "from_itk", "plan_grid", "to_itk"]

#: The voxel size of CT and dose of a plan.
SPACING_MM = 3.0
#: The grid ends this far above and below the target. Beams are coplanar, so farther slices get scattered dose only.
BEYOND_TARGET_MM = 60.0
_PADDING_MM = 2 * SPACING_MM


def plan_grid(head: Volume, target: Volume) -> Volume:
    """Return an empty volume whose axes point to the patient's left, back and head (LPS+), with cubic voxels.

    It covers ``head``, a mask, from 60 mm below to 60 mm above ``target``, a mask on the same grid that is not empty,
    and is centered on that box, so that mirrored masks get mirrored grids.
    """
    low, high = _box_mm(head)
    target_low, target_high = _box_mm(target)
    low[2], high[2] = (
        max(low[2], target_low[2] - BEYOND_TARGET_MM),
        min(high[2], target_high[2] + BEYOND_TARGET_MM),
    )
    shape = np.ceil((high - low + 2 * _PADDING_MM) / SPACING_MM).astype(int) + 1
    affine = np.diag([-SPACING_MM, -SPACING_MM, SPACING_MM, 1.0])
    affine[:3, 3] = (low + high) / 2 - affine[:3, :3] @ ((shape - 1) / 2)
    return Volume(np.zeros(shape, np.float32), affine, modality="CT")


def to_itk(array: NDArray[Any], grid: Volume) -> SimpleITK.Image:
    """Return an array ``(I, J, K)`` on ``grid`` as an image in LPS+ mm, with the identity as its direction."""
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    image.SetSpacing(list(grid.spacing_mm))
    image.SetOrigin((np.array([-1, -1, 1]) * grid.affine[:3, 3]).tolist())
    return image


def from_itk(image: SimpleITK.Image) -> NDArray[Any]:
    """Return the array ``(I, J, K)`` of an image that is on the grid of :func:`to_itk`."""
    array: NDArray[Any] = SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0)
    return array


def _box_mm(mask: Volume) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the smallest and the largest RAS+ coordinates of the centers of a mask's voxels."""
    filled = mask.array.astype(np.bool_)
    columns = np.argwhere(filled.any(axis=2))
    # The extremes are at the ends of columns along the last axis, which are far fewer than all voxels.
    first, last = filled.argmax(axis=2), filled.shape[2] - 1 - filled[:, :, ::-1].argmax(axis=2)
    ends = [np.column_stack([columns, end[tuple(columns.T)]]) for end in (first, last)]
    places = np.concatenate(ends) @ mask.affine[:3, :3].T + mask.affine[:3, 3]
    return places.min(axis=0), places.max(axis=0)
