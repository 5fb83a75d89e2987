"""Grids: whether two volumes share one, and resampling onto another's."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from medcyclegan.volume import Volume

__all__ = ["apart_mm", "on_grid", "same_grid"]

#: Grids are the same where no voxel lies further than this part of a voxel from its partner.
_SAME_PLACE = 1e-2


def same_grid(volume: Volume, reference: Volume) -> bool:
    """Return whether both have one shape and every voxel lies within 1 % of a voxel of its partner."""
    if volume.shape != reference.shape:
        return False
    return apart_mm(volume, reference) <= _SAME_PLACE * min(reference.spacing_mm)


def apart_mm(volume: Volume, reference: Volume) -> float:
    """Return the largest distance between corner voxels of two volumes of one shape, in mm."""
    last = [n - 1 for n in reference.shape]
    corners = [(i, j, k, 1.0) for i in (0, last[0]) for j in (0, last[1]) for k in (0, last[2])]
    moved = (volume.affine - reference.affine) @ np.array(corners).T
    return float(np.linalg.norm(moved[:3], axis=0).max())


def on_grid(volume: Volume, reference: Volume, *, nearest: bool = False) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the volume's values at the reference's voxels ``(I, J, K)``, and where it has any.

    Linear interpolation in float32 (``nearest``: the nearest voxel's value, in the array's own type), by
    SimpleITK. It works on voxel indices, so oblique, left-handed and sheared affines all do. Beyond the volume's
    field of view, which ends with its outermost voxels, the array holds the volume's smallest value.
    """
    to_volume = np.linalg.inv(volume.affine) @ reference.affine
    transform = SimpleITK.AffineTransform(to_volume[:3, :3].ravel().tolist(), to_volume[:3, 3].tolist())
    array = volume.array.astype(_itk_type(volume.array.dtype, nearest))
    outside = float(array.min())
    interpolator = SimpleITK.sitkNearestNeighbor if nearest else SimpleITK.sitkLinear

    def resampled(source: NDArray[Any], how: int, default: float) -> NDArray[Any]:
        image = SimpleITK.GetImageFromArray(source.transpose(2, 1, 0))
        grid = (reference.shape, transform, how, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), np.eye(3).ravel().tolist())
        moved = SimpleITK.Resample(image, *grid, default)
        values: NDArray[Any] = SimpleITK.GetArrayFromImage(moved).transpose(2, 1, 0)
        return values

    covered = resampled(np.ones(volume.shape, np.uint8), SimpleITK.sitkNearestNeighbor, 0.0) > 0
    return resampled(array, interpolator, outside), covered


def _itk_type(dtype: np.dtype[Any], nearest: bool) -> np.dtype[Any]:
    """Return a type that SimpleITK resamples: float32, or for labels their own where it knows it."""
    if nearest and dtype.kind in "biu":
        return np.dtype(np.uint8) if dtype.kind == "b" else dtype
    return np.dtype(np.float32)
