"""The half-width of the prediction interval of each voxel, and the error to expect in a case."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medcyclegan.errors import UsageError
from medcyclegan.inference.intervals.description import describe_case
from medcyclegan.inference.intervals.signals import every_nth_slice, expected_error
from medcyclegan.inference.intervals.tissue_classes import classes_of, patient_mask
from medcyclegan.inference.runtime.options import InferenceOptions
from medcyclegan.inference.translate import Translation
from medcyclegan.model.bundle import Direction
from medcyclegan.model.calibration import HEAD, Calibration
from medcyclegan.model.domains import half_range
from medcyclegan.plane import plane_axes
from medcyclegan.volume import Volume

__all__ = [
    "DEFAULT_COVERAGE",
    "MEASURED_SLICES",
    "CaseError",
    "calibration_for",
    "describe_calibration",
    "expect_case_error",
    "interval_half_width",
    "thinned",
]

log = logging.getLogger(__name__)

#: The coverage of intervals if the user names none.
DEFAULT_COVERAGE = 0.9
#: About this many axial slices of a case are measured.
MEASURED_SLICES = 16


@dataclasses.dataclass(frozen=True)
class CaseError:
    """The error to expect in one translation.

    ``regions``: all inside the patient, or a tissue class, to the expected MAE and the interval that contains the MAE
    of 9 in 10 patients, in the unit of the output; None if too few patients were calibrated on. ``p_value``,
    ``distance``: how unusual the case is among the calibration patients
    (:class:`~medcyclegan.metrics.familiarity.Familiarity`); ``farthest``: the largest distance among them.
    """

    regions: Mapping[str, tuple[float, tuple[float, float] | None]]
    p_value: float
    distance: float
    farthest: float

    def to_dict(self) -> dict[str, Any]:
        """Return the expected errors of the regions as plain JSON types."""
        return {
            name: {"mae": round(mae, 4), "interval_90": None if span is None else [round(v, 4) for v in span]}
            for name, (mae, span) in self.regions.items()
        }


def calibration_for(
    direction: Direction, computing: InferenceOptions, coverage: float | None = None
) -> tuple[Calibration | None, str]:
    """Return the calibration of translations in ``direction``; None, and the reason, if there is none for them.

    Raises :class:`~medcyclegan.errors.UsageError` if ``coverage`` is given and not possible, and
    :class:`~medcyclegan.errors.ModelError` for a damaged calibration, or that of other weights.
    """
    calibration, reason = None, ""
    if len(direction.models) > 1:
        reason = "several models are averaged, and each was calibrated alone"
    else:
        calibration = direction.model.calibration(direction)
        if calibration is None:
            reason = f"the model is not calibrated to {direction.target.name}"
        elif calibration.settings != {"tta": computing.tta, "planes": computing.planes}:
            used = f"--planes {calibration.settings['planes']}" + (" --tta" if calibration.settings["tta"] else "")
            calibration, reason = None, f"the model is calibrated for {used}, not for these options"
    if coverage is not None:
        if calibration is None:
            raise UsageError(
                f"--coverage {coverage:g}: {reason}",
                remedy="calibrate it (medcyclegan calibrate), or leave out --coverage",
            )
        calibration.check_coverage(coverage)
    return calibration, reason


def describe_calibration(calibration: Calibration) -> dict[str, Any]:
    """Return what the sidecar of a translation says about its calibration, as plain JSON types.

    ``reliability``: coverages, and what was found for them inside the calibration patients.
    """
    reliability = calibration.reliability
    return {
        "calibration_patients": calibration.patients,
        "reliability": {
            "coverages": list(reliability.coverages),
            "found": list(reliability.found[HEAD]),
            "width_share": reliability.width_share,
        },
    }


def interval_half_width(
    volume: Volume, done: Translation, calibration: Calibration, coverage: float = DEFAULT_COVERAGE
) -> Volume:
    """Return the half-width of each voxel's prediction interval, on the grid and in the unit of the output.

    The true value of a voxel is within this distance of the output for a share of ``coverage`` of the voxels of each
    tissue class, in the mean over patients like those of the calibration
    (:mod:`medcyclegan.metrics.conformal`). Classes are those of the output.
    """
    width = expected_error(calibration.head, volume, done)
    classes = classes_of(done, patient_mask(volume, done), calibration.levels)
    width *= calibration.factors(coverage)[classes]
    width *= np.float32(half_range(done.direction.target.scaling))
    return done.volume.replace(array=width, modality=None, value_range=None)


def thinned(
    volume: Volume, done: Translation, inside: NDArray[np.bool_]
) -> tuple[Volume, Translation, NDArray[np.bool_]]:
    """Return some axial slices of an input, its translation and the mask of the patient."""
    given, kept = every_nth_slice(volume, MEASURED_SLICES)
    made, _ = every_nth_slice(done.volume, MEASURED_SLICES)
    axis = plane_axes(volume.orientation)[0][2]
    mask = np.moveaxis(np.moveaxis(inside, axis, 0)[kept], 0, axis)
    return given, dataclasses.replace(done, volume=made), mask


def expect_case_error(
    volume: Volume, done: Translation, calibration: Calibration, inside: NDArray[np.bool_] | None = None
) -> CaseError:
    """Return the MAE to expect in the patient and in each tissue class, and how unusual the input is.

    ``inside``: the mask of the patient, by default computed from the input.
    """
    given, made, inside = thinned(volume, done, patient_mask(volume, done) if inside is None else inside)
    if not inside.any():  # no patient in these slices: all of them are described
        inside = np.ones_like(inside)
    expected = expected_error(calibration.head, given, made)
    classes = classes_of(made, inside, calibration.levels)
    scale = half_range(done.direction.target.scaling)
    regions = {}
    for number, name in enumerate((HEAD, *calibration.classes[1:])):
        where = inside if name == HEAD else classes == number
        if where.any() and calibration.ratios.get(name):
            mean = float(expected[where].mean(dtype=np.float64)) * scale
            mae, low, high = calibration.expected_mae(mean, name)
            regions[name] = mae, None if math.isnan(low) else (low, high)
    description = describe_case(given, made, inside)
    familiar = calibration.familiarity
    return CaseError(
        regions, familiar.p_value(description), familiar.distance(description), float(familiar.distances[-1])
    )
