"""Measures of a volume and its slices that the check before training and a model's training set are described by."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medcyclegan.errors import StoreError
from medcyclegan.intensity import AIR
from medcyclegan.manifest import SliceRow, stack_file
from medcyclegan.plane import plane_axes
from medcyclegan.volume import Volume

__all__ = [
    "QUANTILES",
    "Measures",
    "acquisition",
    "axial_extent",
    "axial_spacing",
    "histogram_of",
    "measure_stack",
    "noise_of",
]

#: The number of quantiles that represent a histogram.
QUANTILES = 64
#: The number of slices of a volume that are measured, evenly spaced.
_MOST_SLICES = 8
#: The median of the absolute value of a normal variable, in standard deviations.
_MEDIAN_OF_NORMAL = 0.6745


@dataclasses.dataclass(frozen=True)
class Measures:
    """Measures of the slices of one volume, in scaled units and mm.

    ``histogram``: quantiles of the foreground; None if the measured slices have none. ``noise``: the standard deviation
    of the noise in the foreground. ``area_cm2``: the largest area of the foreground in a slice. ``height_mm``: the
    height that the kept slices cover.
    """

    histogram: tuple[float, ...] | None
    noise: float
    area_cm2: float
    height_mm: float


def measure_stack(store: Path, row: SliceRow) -> Measures:
    """Measure at most 8 evenly spaced slices of a volume in ``store``.

    Raises :class:`~medcyclegan.errors.StoreError` if the stack cannot be read.
    """
    try:
        stack = np.lib.format.open_memmap(stack_file(store, row), mode="r")
    except (OSError, ValueError, EOFError, OverflowError, MemoryError, SyntaxError, TokenError) as error:
        raise StoreError(f"{store / row.file} cannot be read ({error}): remove it and slice again") from None
    if stack.ndim != 3 or len(stack) != len(row.slices):
        raise StoreError(
            f"{store / row.file} has the shape {stack.shape}, not that of its row: remove it and slice again"
        )
    count = min(len(stack), _MOST_SLICES)
    slices = np.asarray(stack[[int((n + 0.5) * len(stack) / count) for n in range(count)]], dtype=np.float32)
    area = max(int(np.count_nonzero(image > AIR)) for image in slices) * math.prod(row.pixel_mm) / 100
    spacing = axial_spacing(Volume(np.broadcast_to(np.False_, row.shape), np.array(row.affine)))[2]
    height = (row.slices[-1] - row.slices[0] + 1) * spacing
    # every other pixel is enough for the quantiles
    return Measures(histogram_of(slices[:, ::2, ::2]), noise_of(slices), area, height)


def histogram_of(scaled: NDArray[Any]) -> tuple[float, ...] | None:
    """Return the quantiles of the foreground of ``scaled`` values in [-1, 1]; None if there is no foreground."""
    values = scaled[scaled > AIR]
    if values.size == 0:
        return None
    levels = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return tuple(np.quantile(values.astype(np.float32), levels).tolist())


def axial_spacing(volume: Volume) -> tuple[float, float, float]:
    """Return the spacing of rows, columns and slices of ``volume`` in the axial plane, in mm."""
    axes, _ = plane_axes(volume.orientation)
    rows, columns, slices = (volume.spacing_mm[axis] for axis in axes)
    return rows, columns, slices


def axial_extent(volume: Volume) -> tuple[float, float, float]:
    """Return the field of view of ``volume`` along the rows, columns and slices of the axial plane, in mm."""
    axes, _ = plane_axes(volume.orientation)
    rows, columns, slices = (volume.spacing_mm[axis] * volume.shape[axis] for axis in axes)
    return rows, columns, slices


def acquisition(volume: Volume) -> str:
    """Return the acquisition plane, that of the array's first two axes: axial, coronal or sagittal."""
    return {"S": "axial", "I": "axial", "A": "coronal", "P": "coronal"}.get(volume.orientation[2], "sagittal")


def noise_of(slices: NDArray[Any]) -> float:
    """Return the standard deviation of the noise in the foreground of ``slices`` ``(K, H, W)``, in their unit.

    It is estimated from the median of a difference operator that vanishes on linear ramps (Immerkaer, Computer Vision
    and Image Understanding 64:300, 1996). It is smaller for slices that were enlarged, and includes fine texture.
    """
    inner = slices[:, 1:-1, 1:-1]
    rows = slices[:, :, :-2] - 2 * slices[:, :, 1:-1] + slices[:, :, 2:]
    response = np.abs(rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:])[inner > AIR]
    return float(np.median(response)) / _MEDIAN_OF_NORMAL / 6 if response.size else 0.0
