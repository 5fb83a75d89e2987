"""Compare the grids of two volumes, and resample a volume to another grid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from medcyclegan.volume import Volume

__all__ = ["apart_mm", "mean_on_grid", "on_grid", "same_grid"]

#: Grids are the same if no voxel is further than this fraction of a voxel from its counterpart.
_SAME_PLACE = 1e-2
_MOST_PARTS = 8


def same_grid(volume: Volume, reference: Volume) -> bool:
    """Return whether the shapes are equal and every voxel is within 1 % of a voxel of its counterpart."""
    if volume.shape != reference.shape:
        return False
    return apart_mm(volume, reference) <= _SAME_PLACE * min(reference.spacing_mm)


def apart_mm(volume: Volume, reference: Volume) -> float:
    """Return the largest distance in mm between corresponding corner voxels of two volumes of the same shape."""
    last = [n - 1 for n in reference.shape]
    corners = [(i, j, k, 1.0) for i in (0, last[0]) for j in (0, last[1]) for k in (0, last[2])]
    moved = (volume.affine - reference.affine) @ np.array(corners).T
    return float(np.linalg.norm(moved[:3], axis=0).max())


def on_grid(volume: Volume, reference: Volume, *, nearest: bool = False) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Resample a volume to the grid of the reference ``(I, J, K)``; also return where it has values.

    SimpleITK interpolates linearly in float32 (``nearest``: takes the nearest voxel, in the type of the array). It
    works on voxel indices, so affines may be oblique, left-handed or sheared. Outside the field of view of the volume,
    which ends at its outermost voxels, the result is the smallest value of the volume.
    """
    return _resampler(volume, nearest)(reference)


def _resampler(volume: Volume, nearest: bool = False) -> Callable[[Volume], tuple[NDArray[Any], NDArray[np.bool_]]]:
    """Return :func:`on_grid` of ``volume`` as a function of the reference; the volume is prepared only once."""
    array = volume.array.astype(_itk_type(volume.array.dtype, nearest))
    outside = float(array.min())
    interpolator = SimpleITK.sitkNearestNeighbor if nearest else SimpleITK.sitkLinear
    image, everywhere = (
        SimpleITK.GetImageFromArray(values.transpose(2, 1, 0)) for values in (array, np.ones(volume.shape, np.uint8))
    )

    def resample(reference: Volume) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        to_volume = np.linalg.inv(volume.affine) @ reference.affine
        transform = SimpleITK.AffineTransform(to_volume[:3, :3].ravel().tolist(), to_volume[:3, 3].tolist())

        def moved(source: SimpleITK.Image, how: int, default: float) -> NDArray[Any]:
            grid = (reference.shape, transform, how, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), np.eye(3).ravel().tolist())
            values: NDArray[Any] = SimpleITK.GetArrayFromImage(SimpleITK.Resample(source, *grid, default))
            return values.transpose(2, 1, 0)

        return moved(image, interpolator, outside), moved(everywhere, SimpleITK.sitkNearestNeighbor, 0.0) > 0

    return resample


def mean_on_grid(volume: Volume, reference: Volume) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Resample like :func:`on_grid`, but as the mean over each voxel of the reference if its voxels are larger.

    Each voxel is divided along each of its axes into as many parts as voxels of the volume fit into it (at most 8), and
    the linear interpolant at the centers of the parts is averaged. The second result: where all parts have values.
    """
    to_volume = np.abs(np.linalg.inv(volume.affine)[:3, :3] @ reference.affine[:3, :3])
    parts = [int(np.clip(round(float(step)), 1, _MOST_PARTS)) for step in to_volume.max(axis=0)]
    total, inside = np.zeros(reference.shape, np.float32), np.ones(reference.shape, np.bool_)
    resample = _resampler(volume)
    for offsets in itertools.product(*((np.arange(n) + 0.5) / n - 0.5 for n in parts)):
        affine = reference.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ np.array(offsets)
        values, covered = resample(reference.replace(affine=affine))
        total += values
        inside &= covered
    total /= math.prod(parts)
    return total, inside


def _itk_type(dtype: np.dtype[Any], nearest: bool) -> np.dtype[Any]:
    """Return a type that SimpleITK can resample: float32, or for labels their own type if it is supported."""
    if nearest and dtype.kind in "biu":
        return np.dtype(np.uint8) if dtype.kind == "b" else dtype
    return np.dtype(np.float32)
