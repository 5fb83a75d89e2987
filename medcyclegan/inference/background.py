"""Restore the background of a synthetic MR: air gets the air value of the target domain."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medcyclegan.intensity import AIR, IntensityScaling, foreground_threshold
from medcyclegan.plane import plane_axes, plane_view
from medcyclegan.volume import Volume

__all__ = ["restore_air"]

#: A translated voxel with this scaled value or more shows signal; one with ``AIR`` or less does not. Between them, the
#: transition is gradual, so that the edge of dark tissue has no seam.
_SIGNAL = -0.8
#: Signal is kept up to the first of these distances from the patient, and dropped beyond the second (mm, axial plane).
_NEAR_MM, _FAR_MM = 10.0, 20.0
#: A CT voxel this many HU below the foreground threshold does not show the patient.
_FAINT_HU = 250.0
#: Axial slices that are processed at a time.
_PART = 8

Slices = NDArray[np.float32]


def restore_air(
    output: NDArray[Any],
    volume: Volume,
    scaling: IntensityScaling,
    target: IntensityScaling,
    deviation: NDArray[np.float32] | None = None,
) -> None:
    """Set the voxels of ``output`` ``(I, J, K)`` that show air to the air value of ``target``, in place.

    The darkest output of a generator, -1, means the lower percentile of the target's tissue, so without this step
    air would be as bright as dark tissue. A voxel is air if the input ``volume``, scaled by ``scaling``, does not show
    the patient there *and* the translation shows no signal. Dark tissue and signal next to the head therefore keep
    their values. All conditions are gradual, so the result is continuous and has no seams:
    ``air + (value - air) * (1 - (1 - p) * (1 - n * q))``.

    ``p`` (patient) rises from 0 to 1 over the upper half of the interval from the input's air to its foreground
    threshold (CT: from -750 to -500 HU). A single bright voxel in the background is noise, so the mean of 3 x 3 voxels
    is used if it is lower. ``q`` (signal) rises between the scaled output values -0.95 and -0.8. ``n`` (nearness)
    falls from 1 to 0 between 10 and 20 mm from the nearest part of the patient in the same axial slice, because
    networks turn nearly empty slices into noise, and nothing in mid-air is anatomy. The ``deviation`` ``(I, J, K)`` of
    several predictions is reduced by the same factor.
    """
    from scipy import ndimage  # a large import, which a translation needs only after its slices

    threshold = foreground_threshold(volume.array, "CT" if scaling.kind == "window" else "MR")
    faint = threshold - _FAINT_HU if scaling.kind == "window" else (scaling.background + threshold) / 2
    air = np.float32(target.background)
    axes, _ = plane_axes(volume.orientation)
    spacing = volume.spacing_mm[axes[0]], volume.spacing_mm[axes[1]]
    inputs, outputs = (plane_view(array, volume.orientation) for array in (volume.array, output))
    for first in range(0, inputs.shape[2], _PART):
        part = slice(first, first + _PART)
        given, values = inputs[:, :, part].astype(np.float32), outputs[:, :, part]
        patient = _rise(np.minimum(given, ndimage.uniform_filter(given, (3, 3, 1), mode="nearest")), faint, threshold)
        signal = _rise(target.normalize(values), AIR, _SIGNAL) * _nearness(patient, spacing)
        kept = 1 - (1 - patient) * (1 - signal)
        values -= (values - air) * (1 - kept)
        if deviation is not None:
            plane_view(deviation, volume.orientation)[:, :, part] *= kept


def _nearness(patient: Slices, spacing_mm: tuple[float, float]) -> Slices:
    """Return 1 near the ``patient`` ``(H, W, K)``, falling to 0 with the distance, for each slice."""
    from scipy import ndimage

    reach, blur = (
        (*(_odd(2 * length / mm) for mm in spacing_mm), 1)
        for length in ((_NEAR_MM + _FAR_MM) / 2, (_FAR_MM - _NEAR_MM) / 2)
    )
    grown = ndimage.maximum_filter(patient, reach, mode="nearest")
    nearness: Slices = ndimage.uniform_filter(grown, blur, mode="nearest")
    return nearness


def _odd(pixels: float) -> int:
    """Return the odd number nearest to ``pixels``."""
    return 2 * round((pixels - 1) / 2) + 1


def _rise(values: Slices, start: float, end: float) -> Slices:
    """Return 0 up to ``start``, 1 from ``end`` on, and a linear ramp between."""
    width = max(end - start, 1e-6)
    return np.clip((values - np.float32(start)) / np.float32(width), 0, 1)
