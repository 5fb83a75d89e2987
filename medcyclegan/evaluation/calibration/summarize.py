"""Score the calibration patients by the error head, and summarize their scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from medcyclegan.evaluation.calibration.measure import MeasuredCase
from medcyclegan.inference.intervals.description import describe_case
from medcyclegan.inference.intervals.half_width import thinned
from medcyclegan.inference.intervals.signals import expected_error
from medcyclegan.inference.intervals.tissue_classes import class_names, classes_of
from medcyclegan.metrics.conformal import (
    LEVELS,
    corrected,
    coverage_without_each,
    mean_quantiles,
    patient_quantiles,
)
from medcyclegan.model.calibration import HEAD, OUTSIDE, Reliability
from medcyclegan.networks import ErrorHead

__all__ = ["ScoredPatient", "class_quantiles", "error_ratios", "measure_reliability", "score_patient"]

#: The coverages of the reliability diagram, and the one of which the width is compared.
_COVERAGES, _COMPARED = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95), 0.9
#: A class counts in a patient with at least the first number of voxels; at most the second is used, at random.
_FEWEST_VOXELS, _MOST_VOXELS = 50, 100_000


@dataclasses.dataclass(frozen=True, eq=False)
class ScoredPatient:
    """What one calibration patient contributes.

    ``quantiles``: class to the quantiles of error / expected error. ``voxels``: class to the number of voxels.
    ``errors``: region to mean error and mean expected error. ``absolute``: the quantiles of the error inside the
    patient. ``descriptions``: of each case.
    """

    quantiles: Mapping[str, NDArray[np.float32]]
    voxels: Mapping[str, int]
    errors: Mapping[str, tuple[float, float]]
    absolute: NDArray[np.float32]
    descriptions: tuple[list[NDArray[np.float32]], ...]


def score_patient(cases: Sequence[MeasuredCase], head: ErrorHead, levels: Sequence[float], seed: int) -> ScoredPatient:
    """Return the scores of all cases of one patient, whose voxels count equally."""
    random = np.random.default_rng(seed)
    errors, expected, classes, descriptions = [], [], [], []
    for case in cases:
        known = case.known
        errors.append(case.error[known])
        expected.append(expected_error(head, case.volume, case.done)[known])
        classes.append(classes_of(case.done, case.inside, levels)[known])
        descriptions.append(describe_case(*thinned(case.volume, case.done, case.inside)))
    error, scale, number = np.concatenate(errors), np.concatenate(expected), np.concatenate(classes)
    names = class_names(cases[0].done.direction.target.scaling)
    quantiles, voxels, means = {}, {}, {}
    for value, name in enumerate(names):
        places = np.flatnonzero(number == value)
        if len(places) < _FEWEST_VOXELS:
            continue
        voxels[name] = len(places)
        means[name] = float(error[places].mean()), float(scale[places].mean())
        if len(places) > _MOST_VOXELS:
            places = random.choice(places, _MOST_VOXELS, replace=False)
        quantiles[name] = patient_quantiles(error[places] / scale[places])
    inside = number > 0
    means[HEAD] = float(error[inside].mean()), float(scale[inside].mean())
    return ScoredPatient(quantiles, voxels, means, patient_quantiles(error[inside]), tuple(descriptions))


def class_quantiles(patients: Sequence[ScoredPatient], names: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Return the quantiles of the scores of each class, in which patients count equally; 0 if none has it."""
    found = {}
    for name in names:
        each = [patient.quantiles[name] for patient in patients if name in patient.quantiles]
        found[name] = mean_quantiles(np.stack(each)) if each else np.zeros(len(LEVELS), np.float32)
    return found


def error_ratios(patients: Sequence[ScoredPatient], names: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Return the ratios of mean error and mean expected error of each region in each patient that has it."""
    found = {}
    for name in (HEAD, *(name for name in names if name != OUTSIDE)):
        pairs = [patient.errors[name] for patient in patients if name in patient.errors]
        found[name] = tuple(round(error / expected, 5) for error, expected in pairs)
    return found


def measure_reliability(patients: Sequence[ScoredPatient], names: Sequence[str]) -> Reliability:
    """Return the coverage of each patient's voxels by intervals from all other patients, in the mean over patients."""
    covered = {name: np.full((len(_COVERAGES), len(patients)), np.nan) for name in names}
    for name in names:
        places = [n for n, patient in enumerate(patients) if name in patient.quantiles]
        if places:
            each = np.stack([patients[n].quantiles[name] for n in places])
            covered[name][:, places] = coverage_without_each(each, _COVERAGES)
    inner = [name for name in names if name != OUTSIDE]
    weights = np.array([[patient.voxels.get(name, 0) for patient in patients] for name in inner], float)
    values = np.stack([covered[name] for name in inner], axis=1)
    counted = np.where(np.isnan(values), 0, weights)
    total = (np.nan_to_num(values) * counted).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)
    total[:, weights.sum(axis=0) == 0] = np.nan
    found = {HEAD: _means(total)} | {name: _means(covered[name]) for name in names}
    return Reliability(_COVERAGES, found, round(_width_share(patients, inner), 4))


def _means(values: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the means over patients; 0 where no interval is possible, which no diagram shows."""
    return tuple(0.0 if np.isnan(row).all() else round(float(np.nanmean(row)), 5) for row in values)


def _width_share(patients: Sequence[ScoredPatient], names: Sequence[str]) -> float:
    """Return the mean width of the intervals, relative to the constant interval with the same coverage."""
    quantiles = class_quantiles(patients, names)
    ours, voxels = 0.0, 0
    for patient in patients:
        for name in names:
            if name in patient.quantiles:
                level = min(corrected(_COMPARED, len(patients)), LEVELS[-1])
                width = float(np.interp(level, LEVELS, quantiles[name])) * patient.errors[name][1]
                ours += width * patient.voxels[name]
                voxels += patient.voxels[name]
    level = min(corrected(_COMPARED, len(patients)), LEVELS[-1])
    constant = float(np.interp(level, LEVELS, mean_quantiles(np.stack([p.absolute for p in patients]))))
    return ours / max(1, voxels) / constant
