"""Resample slices that are not on an even, rectangular grid to one, by linear interpolation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medcyclegan.errors import ReadError
from medcyclegan.io.dicom.geometry import even_step

__all__ = ["resample_even", "resample_upright"]

_EDGE = 1e-6


def resample_even(
    array: NDArray[Any], affine: NDArray[np.float64], distances_mm: NDArray[np.float64], max_voxels: int
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Resample slices ``(I, J, K)`` at uneven distances to an even grid with their smallest gap.

    ``affine`` has the mean step from slice to slice as its third column; the new one starts at the same slice and
    points the same way. Raises :class:`~medcyclegan.errors.ReadError` above ``max_voxels``.
    """
    gap, count = even_step(distances_mm)
    _check_size((*array.shape[:2], count), max_voxels)
    even = np.empty((count, array.shape[1], array.shape[0]), dtype=np.float32).transpose(2, 1, 0)
    last = len(distances_mm) - 1
    for k, distance in enumerate(np.minimum(np.arange(count) * gap, distances_mm[-1])):
        below = min(int(np.searchsorted(distances_mm, distance, side="right")) - 1, last - 1)
        weight = (distance - distances_mm[below]) / (distances_mm[below + 1] - distances_mm[below])
        if weight < _EDGE or weight > 1 - _EDGE:
            even[..., k] = array[..., below + round(weight)]
        else:
            even[..., k] = array[..., below] * (1 - weight)
            even[..., k] += array[..., below + 1] * weight
    result = affine.copy()
    result[:3, 2] *= gap * last / distances_mm[-1]
    return even, result


def resample_upright(
    array: NDArray[Any], affine: NDArray[np.float64], max_voxels: int
) -> tuple[NDArray[Any], NDArray[np.float64], float]:
    """Resample a leaning stack to a rectangular grid along its stacking direction, in which the table moves.

    The grid contains the whole stack and has its spacings; its corners are outside the stack and get the smallest
    value, which is also returned. Raises :class:`~medcyclegan.errors.ReadError` above ``max_voxels``.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    upward = affine[:3, 2] / spacing[2]
    across = affine[:3, 0] - affine[:3, 0] @ upward * upward
    across /= np.linalg.norm(across)
    third = np.cross(upward, across)
    third *= np.sign(third @ affine[:3, 1])
    target = np.eye(4)
    target[:3, :3] = np.column_stack([across, third, upward]) * spacing
    extent = np.array(array.shape) - 1.0
    corners = np.array([[i, j, k] for i in (0, extent[0]) for j in (0, extent[1]) for k in (0, extent[2])])
    placed = (np.linalg.inv(target) @ affine)[:3, :3] @ corners.T
    low = np.floor(placed.min(axis=1) + _EDGE)
    shape = tuple(int(n) for n in np.ceil(placed.max(axis=1) - _EDGE) - low + 1)
    _check_size(shape, max_voxels)
    target[:3, 3] = affine[:3, 3] + target[:3, :3] @ low
    to_source = np.linalg.inv(affine) @ target
    outside = float(array.min())
    upright = np.empty(shape[::-1], dtype=np.float32).transpose(2, 1, 0)
    in_plane = np.stack(np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij"))
    source = np.asarray(array, dtype=np.float32)
    for k in range(shape[2]):
        places = (
            np.tensordot(to_source[:3, :2], in_plane, axes=1) + (to_source[:3, 2] * k + to_source[:3, 3])[:, None, None]
        )
        # rounding may put a position on the border slightly outside
        for axis in range(3):
            near = np.abs(places[axis] - np.clip(places[axis], 0, extent[axis])) < _EDGE
            places[axis][near] = np.clip(places[axis][near], 0, extent[axis])
        upright[..., k] = ndimage.map_coordinates(source, places, order=1, cval=outside, prefilter=False)
    return upright, target, outside


def _check_size(shape: tuple[int, ...], max_voxels: int) -> None:
    size = int(np.prod(shape, dtype=np.int64))
    if size > max_voxels:
        raise ReadError(
            f"resampled it would have {shape[0]} x {shape[1]} x {shape[2]} voxels, over the limit of {max_voxels}",
            remedy=f"raise it with --max-voxels {size}",
        )
