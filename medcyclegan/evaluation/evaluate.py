"""Scores of one translated volume against a reference of the same patient."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medcyclegan.errors import GeometryError, IntensityError
from medcyclegan.metrics import head_mask, mae, mean_error, ms_ssim, ncc, psnr, ssim
from medcyclegan.volume import Volume

__all__ = ["Evaluation", "evaluate_volumes"]

#: The ranges of the two challenges, in HU.
_HU_2025 = (-1024.0, 3071.0)
_HU_2023 = (-1024.0, 3000.0)
_PERCENTILES = (0.5, 99.5)
#: Grids are the same where no voxel lies further than this part of a voxel from its partner.
_SAME_PLACE = 1e-2


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The scores of a volume inside a mask.

    ``mae``, ``psnr`` (dB), ``ms_ssim``: as SynthRAD2025; ``mae_2023``, ``psnr_2023``, ``ssim_2023``: as SynthRAD2023;
    ``mean_error``: fake - reference; ``ncc``: correlation. Errors are in ``unit``, after ``normalization``; ``voxels``
    is the mask's size. ``baseline`` holds the same for the input taken as the output, where it was given.
    """

    mae: float
    psnr: float
    ms_ssim: float
    mae_2023: float
    psnr_2023: float
    ssim_2023: float
    mean_error: float
    ncc: float
    voxels: int
    unit: str
    normalization: str
    baseline: Evaluation | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON types, ``baseline`` as an object with the same keys, or None."""
        return dataclasses.asdict(self)


def evaluate_volumes(
    fake: Volume,
    reference: Volume,
    *,
    mask: Volume | NDArray[Any] | None = None,
    baseline: Volume | None = None,
) -> Evaluation:
    """Return the scores of ``fake`` against ``reference``, all on one grid ``(I, J, K)``.

    ``mask`` is where to score (anything above 0), by default the reference's
    :func:`~medcyclegan.metrics.head_mask`. ``baseline`` is the translation's input taken as its output: a score
    says little without the score of having done nothing.

    CT (by the reference's modality): HU, in the challenges' ranges. Pictures (``value_range``): grey levels in that
    range. Anything else has no unit, so fake, baseline and reference are each first scaled linearly, the 0.5th and
    99.5th percentile of their own values in the mask to 0 and 1, and clipped there. What a wrong gain or offset
    alone would cost is thus left out, for the fake and for the baseline alike.

    Raises :class:`~medcyclegan.errors.GeometryError` for volumes on different grids, and
    :class:`~medcyclegan.errors.IntensityError` for non-finite voxels, an empty mask, or no contrast in it.
    """
    where = _mask_array(mask, reference)
    for name, volume in (("fake", fake), ("baseline", baseline)):
        if volume is not None:
            _check_grid(name, volume, reference)
    expected = _comparable(reference, reference, where, "reference")
    scores = _scores(_comparable(fake, reference, where, "fake"), expected, where, reference)
    if baseline is None:
        return scores
    compared = _comparable(baseline, reference, where, "baseline")
    return dataclasses.replace(scores, baseline=_scores(compared, expected, where, reference))


def _scores(fake: NDArray[Any], expected: NDArray[Any], where: NDArray[np.bool_], reference: Volume) -> Evaluation:
    range_2025, range_2023, unit, normalization = _ranges(reference)
    error = mae(fake, expected, where)
    return Evaluation(
        mae=error,
        psnr=psnr(fake, expected, value_range=range_2025, mask=where),
        ms_ssim=ms_ssim(fake, expected, value_range=range_2025, mask=where),
        mae_2023=error,
        psnr_2023=psnr(fake, expected, value_range=range_2023, mask=where),
        ssim_2023=ssim(fake, expected, value_range=range_2023, mask=where),
        mean_error=mean_error(fake, expected, where),
        ncc=ncc(fake, expected, where),
        voxels=int(np.count_nonzero(where)),
        unit=unit,
        normalization=normalization,
    )


def _ranges(reference: Volume) -> tuple[tuple[float, float], tuple[float, float], str, str]:
    """Return the value ranges of 2025 and of 2023, the unit, and what was done to the values."""
    if reference.modality == "CT":
        return _HU_2025, _HU_2023, "HU", "none"
    if reference.value_range is not None:
        return reference.value_range, reference.value_range, "grey level", "none"
    lower, upper = _PERCENTILES
    said = f"percentiles {lower:g} and {upper:g} in the mask to 0 and 1, each volume by its own, clipped"
    return (0.0, 1.0), (0.0, 1.0), "of the range 0 to 1", said


def _comparable(volume: Volume, reference: Volume, where: NDArray[np.bool_], name: str) -> NDArray[Any]:
    """Return the volume's array in the unit in which it is compared."""
    inside = volume.array[where]
    bad = int(np.count_nonzero(~np.isfinite(inside)))
    if bad:
        raise IntensityError(f"{name}: {bad} voxels in the mask are not finite: fill them before the evaluation")
    if reference.modality == "CT" or reference.value_range is not None:
        return volume.array
    lower, upper = np.percentile(inside, _PERCENTILES)
    if not lower < upper:
        raise IntensityError(f"{name}: all voxels in the mask are {lower:g}: without contrast nothing can be compared")
    scaled = (volume.array.astype(np.float32) - np.float32(lower)) / np.float32(upper - lower)
    return np.clip(scaled, 0, 1)


def _mask_array(mask: Volume | NDArray[Any] | None, reference: Volume) -> NDArray[np.bool_]:
    if mask is None:
        where = head_mask(reference)
    elif isinstance(mask, Volume):
        _check_grid("mask", mask, reference)
        where = mask.array > 0
    else:
        where = np.asarray(mask) > 0
    if where.shape != reference.shape:
        raise GeometryError(
            f"a mask of shape {where.shape} for a reference of shape {reference.shape}: they must agree"
        )
    if not where.any():
        raise IntensityError("an empty mask: there is no voxel to score; give a mask that covers the patient")
    return where


def _check_grid(name: str, volume: Volume, reference: Volume) -> None:
    """Refuse a volume whose voxels do not lie where the reference's do."""
    if volume.shape != reference.shape:
        raise GeometryError(
            f"{name}: shape {volume.shape}, the reference has {reference.shape}: resample it onto the reference's grid"
        )
    corners = np.array([(*corner, 1.0) for corner in _corners(reference.shape)]).T
    apart_mm = np.linalg.norm(((volume.affine - reference.affine) @ corners)[:3], axis=0).max()
    if apart_mm > _SAME_PLACE * min(reference.spacing_mm):
        raise GeometryError(
            f"{name}: its corners lie up to {apart_mm:.3g} mm from the reference's: "
            "resample it onto the reference's grid"
        )


def _corners(shape: tuple[int, int, int]) -> Iterator[tuple[int, int, int]]:
    for i in (0, shape[0] - 1):
        for j in (0, shape[1] - 1):
            for k in (0, shape[2] - 1):
                yield i, j, k
