"""Translate a case with truth and measure its errors on the grid of the translation."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from medcyclegan.evaluation.alignment import align_volumes
from medcyclegan.inference import InferenceOptions, Translation, translate
from medcyclegan.inference.intervals.half_width import MEASURED_SLICES
from medcyclegan.inference.intervals.signals import every_nth_slice, slice_signals
from medcyclegan.inference.intervals.tissue_classes import patient_mask
from medcyclegan.model.bundle import Direction
from medcyclegan.model.domains import source_scaling
from medcyclegan.plane import plane_axes, plane_view, to_plane
from medcyclegan.volume import Volume

__all__ = ["FittingSlices", "MeasuredCase", "fitting_slices", "measure_case"]


@dataclasses.dataclass(frozen=True, eq=False)
class MeasuredCase:
    """A translated case and its errors.

    ``volume``: the input, or some axial slices of it. ``error``: the absolute difference from the truth, ``(I, J, K)``
    in units of the scaled range [-1, 1]. ``known``: where the truth has values. ``inside``: the patient.
    """

    volume: Volume
    done: Translation
    error: NDArray[np.float32]
    known: NDArray[np.bool_]
    inside: NDArray[np.bool_]


def measure_case(
    source: Volume,
    truth: Volume,
    direction: Direction,
    computing: InferenceOptions,
    *,
    register: bool = False,
) -> MeasuredCase:
    """Translate ``source`` and compare the result with ``truth``, which is resampled to its grid.

    Both are scaled as volumes of the target domain: CT by the window, MR by the percentiles of its own foreground,
    because the gain of a scanner is arbitrary. Raises a :class:`~medcyclegan.errors.MedCycleGANError` for a pair that
    cannot be compared.
    """
    axial = computing.planes == "axial"
    axes, _ = plane_axes(source.orientation)
    volume, kept = every_nth_slice(source, MEASURED_SLICES) if axial else (source, slice(None))
    done = translate(volume, direction, computing)
    whole = patient_mask(source, done)
    inside = np.moveaxis(np.moveaxis(whole, axes[2], 0)[kept], 0, axes[2])
    scaling = source_scaling(truth, direction.target)
    aligned = align_volumes(
        truth, done.volume, mask=np.ones(volume.shape, np.bool_), register="rigid" if register else None
    )
    made = direction.target.scaling.normalize(done.volume.array)
    error = np.abs(made - scaling.normalize(aligned.fake))
    return MeasuredCase(volume, done, error, aligned.mask, inside & aligned.mask)


@dataclasses.dataclass(frozen=True, eq=False)
class FittingSlices:
    """Slices of one case for fitting the error head, in half precision.

    ``signals``: ``(N, 2, H, W)``. ``error``: the mean absolute error of 2 x 2 pixels, ``(N, 1, H / 2, W / 2)``, in
    scaled units. ``weight``: the share of them that is inside the patient.
    """

    signals: torch.Tensor
    error: torch.Tensor
    weight: torch.Tensor


def fitting_slices(case: MeasuredCase) -> FittingSlices:
    """Return the slices of ``case`` that show the patient."""
    errors, masks = (plane_view(array, case.volume.orientation) for array in (case.error, case.inside))
    parts = []
    for part, fit, signals in slice_signals(case.volume, case.done):
        error, mask = (
            to_plane(
                torch.from_numpy(array[:, :, part].transpose(2, 0, 1).astype(np.float32))[:, None], fit, padding=0.0
            )
            for array in (errors, masks)
        )
        weight = functional.avg_pool2d(mask, 2)
        mean = functional.avg_pool2d(error * mask, 2) / weight.clamp(min=1e-6)
        shown = weight.mean(dim=(1, 2, 3)) > 0.01
        parts.append([values[shown].half() for values in (signals, mean, weight)])
    signals, error, weight = (torch.cat(values) for values in zip(*parts, strict=True))
    return FittingSlices(signals, error, weight)
