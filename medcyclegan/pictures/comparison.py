"""Comparison pictures: a translation next to its reference, with the error between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medcyclegan.pictures.drawing import grey_tile, heat_tile, join, labelled
from medcyclegan.pictures.preview import to_ras
from medcyclegan.volume import Volume

__all__ = ["comparison_picture"]

#: Plane -> world axes along the columns and along the rows, and the axis normal to the plane.
_PLANES = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}
_LONGEST = 240


def comparison_picture(
    volumes: Mapping[str, Volume],
    error: Volume,
    *,
    limits: Mapping[str, tuple[float, float]],
    error_limit: float,
    unit: str,
) -> Image.Image:
    """Return volumes on one grid and their error: a row per plane, a column per volume, the error last.

    In each direction the slice with the highest mean error is shown, after smoothing over three slices.
    Radiological display, voxels in their true proportions. ``limits``: the values shown black and white, by name.
    ``error_limit``: the absolute error shown white. Planes that are a single line of voxels are left out, unless
    the volumes have no others.
    """
    upright = {name: to_ras(volume)[0] for name, volume in volumes.items()}
    absolute, spacing = to_ras(error)
    extent = max(n * mm for n, mm in zip(absolute.shape, spacing, strict=True))
    areas = [name for name, axes in _PLANES.items() if min(absolute.shape[axis] for axis in axes[:2]) > 1]
    rows = []
    for plane in areas or _PLANES:
        across, down, through = _PLANES[plane]
        profile = absolute.mean(axis=(across, down))
        index = int(np.argmax(np.convolve(profile, np.ones(min(3, len(profile))) / 3, mode="same")))
        size = _size(absolute.shape, spacing, (across, down), _LONGEST / extent)
        row = []
        for name, array in upright.items():
            tile = grey_tile(_cut(array, through, index), *limits[name], size=size)
            row.append(labelled(tile, f"{name}, {plane}"))
        heat = heat_tile(_cut(absolute, through, index), error_limit, size=size)
        rows.append([*row, labelled(heat, f"error, 0 to {error_limit:.3g} {unit}")])
    return join(rows)


def _cut(array: NDArray[Any], through: int, index: int) -> NDArray[Any]:
    """Return a plane of an array ``(R, A, S)``, oriented for radiological display."""
    return array.take(index, axis=through).T[::-1, ::-1]


def _size(
    shape: tuple[int, ...], spacing: NDArray[np.float64], axes: tuple[int, int], pixels_per_mm: float
) -> tuple[int, int]:
    width, height = (max(1, round(shape[axis] * spacing[axis] * pixels_per_mm)) for axis in axes)
    return width, height
