"""Masks of the patient."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medcyclegan.errors import IntensityError
from medcyclegan.intensity import PADDING_HU
from medcyclegan.volume import Volume

__all__ = ["erode_mm", "head_mask"]

# SimpleITK is imported where it is used: training imports the metrics, but needs no masks.
#: Masks are computed on a grid of at most about this many voxels along an axis.
_LONGEST = 192
_CLOSING_MM = 4.0
#: CT values beyond these do not help to find the outline of the patient, and would shift Otsu's threshold.
_CT_RANGE_HU = (PADDING_HU, 300.0)


def head_mask(volume: Volume) -> NDArray[np.bool_]:
    """Return a mask of the patient, boolean ``(I, J, K)``: Otsu's threshold, closing, largest part, filled holes.

    For MR the threshold is half of Otsu's above the darkest value, since dark tissue is below Otsu's threshold.
    Gaps of about 4 mm are closed, and regions enclosed in any of the three planes count as inside (bone, sinuses,
    airways), also in a single slice. Volumes of more than 192 voxels along an axis are masked on a coarser grid.
    Raises :class:`~medcyclegan.errors.IntensityError` for a constant volume.
    """
    steps = [max(1, -(-n // _LONGEST)) for n in volume.shape]
    coarse = volume.array[tuple(slice(None, None, step) for step in steps)].astype(np.float32)
    spacing_mm = [mm * step for mm, step in zip(volume.spacing_mm, steps, strict=True)]
    if volume.modality == "CT":
        coarse = np.clip(coarse, *_CT_RANGE_HU)
    lowest, highest = np.percentile(coarse, (0.1, 99.9))
    if not lowest < highest:
        raise IntensityError("a constant volume: the head cannot be distinguished from air; give a mask")
    mask = np.clip(coarse, lowest, highest) > _threshold(np.clip(coarse, lowest, highest), volume.modality)
    mask = _largest(_closed(mask, spacing_mm))
    for step, axis in zip(steps, range(3), strict=True):
        mask = np.repeat(mask, step, axis=axis)
    i, j, k = volume.shape
    return mask[:i, :j, :k]


def erode_mm(mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float], radius_mm: float) -> NDArray[np.bool_]:
    """Return the voxels of ``mask`` that are farther than ``radius_mm`` from the nearest voxel outside it.

    The edge of the grid does not count as outside: where the patient extends beyond the field of view, the mask is
    not eroded.
    """
    from scipy import ndimage

    if mask.all():
        return mask.copy()
    inside: NDArray[np.bool_] = ndimage.distance_transform_edt(mask, sampling=spacing_mm) > radius_mm
    return inside


def _threshold(array: NDArray[np.float32], modality: str | None) -> float:
    import SimpleITK

    otsu = SimpleITK.OtsuThresholdImageFilter()
    otsu.SetNumberOfHistogramBins(256)
    otsu.Execute(SimpleITK.GetImageFromArray(array))
    threshold, lowest = float(otsu.GetThreshold()), float(array.min())
    return threshold if modality == "CT" else lowest + (threshold - lowest) / 2


def _closed(mask: NDArray[np.bool_], spacing_mm: list[float]) -> NDArray[np.bool_]:
    """Close gaps, then fill regions that are enclosed in any plane of the grid."""
    import SimpleITK
    from scipy import ndimage

    radius = [0 if n == 1 else round(_CLOSING_MM / mm) for n, mm in zip(mask.shape, spacing_mm, strict=True)]
    image = SimpleITK.GetImageFromArray(np.pad(mask, [(r, r) for r in radius]).astype(np.uint8))
    closed = SimpleITK.GetArrayFromImage(SimpleITK.BinaryMorphologicalClosing(image, radius[::-1])).astype(np.bool_)
    closed = closed[tuple(slice(r, r + n) for r, n in zip(radius, mask.shape, strict=True))]
    filled = closed.copy()
    for axis in range(3):
        cross = ndimage.generate_binary_structure(3, 1)
        cross[tuple([0, 2] if n == axis else slice(None) for n in range(3))] = False
        filled |= ndimage.binary_fill_holes(closed, structure=cross)
    return filled


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    import SimpleITK

    components = SimpleITK.RelabelComponent(
        SimpleITK.ConnectedComponent(SimpleITK.GetImageFromArray(mask.astype(np.uint8)))
    )
    largest: NDArray[np.bool_] = SimpleITK.GetArrayFromImage(components) == 1
    return largest
