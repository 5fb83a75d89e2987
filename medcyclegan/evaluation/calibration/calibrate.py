"""Calibrate a model's prediction intervals on patients with ground truth; store the result in the model folder."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medcyclegan.errors import MedCycleGANError, ReadError, UsageError, one_line
from medcyclegan.evaluation.calibration.fit import fit_error_head
from medcyclegan.evaluation.calibration.measure import MeasuredCase, fitting_slices, measure_case
from medcyclegan.evaluation.calibration.summarize import (
    class_quantiles,
    error_ratios,
    measure_reliability,
    score_patient,
)
from medcyclegan.evaluation.pairs import Pair, find_pairs, read_pairs
from medcyclegan.inference import InferenceOptions, load_models
from medcyclegan.inference.intervals.tissue_classes import class_levels, class_names
from medcyclegan.io import ReadOptions, read_found_volume
from medcyclegan.metrics.conformal import fewest_patients
from medcyclegan.metrics.familiarity import Familiarity
from medcyclegan.model.bundle import Direction
from medcyclegan.model.calibration import HEAD, Calibration, calibration_file
from medcyclegan.model.domains import half_range
from medcyclegan.model.shipped import model_folder
from medcyclegan.progress import progress_bar
from medcyclegan.storage import atomic_write, check_output

__all__ = ["CalibrationOptions", "calibrate_model"]

log = logging.getLogger(__name__)

#: The coverage that must be possible.
_COVERAGE = 0.9
#: The share of the patients on which the error head is fitted, and the smallest number of them.
_FITTED, _FEWEST_FITTED = 0.3, 3
#: Every n-th voxel is used to find the boundaries of the classes.
_STRIDE = 50


@dataclasses.dataclass(frozen=True)
class CalibrationOptions:
    """Options of :func:`calibrate_model`; the command's help describes each.

    ``computing``: ``tta`` and ``planes`` are stored with the calibration, which is valid for these settings only.
    ``steps``: of fitting the error head. ``seed``: of the choice of patients and the fit.
    """

    to: str | None = None
    computing: InferenceOptions = dataclasses.field(default_factory=InferenceOptions)
    register: bool = False
    steps: int = 900
    seed: int = 0
    overwrite: bool = False
    reading: ReadOptions = dataclasses.field(default_factory=ReadOptions)


def calibrate_model(model: str | Path, cases: str | Path, options: CalibrationOptions | None = None) -> list[Path]:
    """Calibrate the model folder ``model`` on ``cases``, and return the files that were written into it.

    ``cases``: a CSV with the columns ``input`` and ``reference`` (and ``case``, ``patient``), or a folder with a
    subfolder for each domain, as ``synthesize`` writes. Three in ten patients, chosen at random, are used to fit the
    error head, the others to calibrate it. Without ``options.to``, a CSV calibrates the direction into the model's
    second domain, and a folder both directions.

    Raises a :class:`~medcyclegan.errors.MedCycleGANError` before any work if a file exists or the patients are too few.
    """
    options = options or CalibrationOptions()
    folder, cases = model_folder(model), Path(cases)
    (bundle,) = load_models(folder)
    directions = [bundle.direction(options.to)] if options.to else list(bundle.directions)
    if cases.is_file():
        directions = directions if options.to else directions[:1]
    jobs = []
    for direction in directions:
        file = folder / calibration_file(direction.generator)
        check_output(file, overwrite=options.overwrite)
        pairs = _find_cases(cases, direction, options)
        _split(pairs, options.seed)
        jobs.append((direction, file, pairs))
    written = []
    for direction, file, pairs in jobs:
        calibration = _calibrate(direction, pairs, options)
        with atomic_write(file) as output:
            output.write(calibration.to_bytes())
        written.append(file)
    return written


def _find_cases(cases: Path, direction: Direction, options: CalibrationOptions) -> list[Pair]:
    if cases.is_file():
        pairs = read_pairs(cases, options.reading, first="input")
        if any(pair.target or pair.organs for pair in pairs):
            raise UsageError(f"{cases}: the columns target and organ:NAME are for evaluate --dose: leave them out")
        return pairs
    source, target = cases / direction.source.name, cases / direction.target.name
    for side in (source, target):
        if not side.is_dir():
            raise ReadError(
                f"{cases} has no subfolder {side.name}: name a folder with the subfolders {source.name} and "
                f"{target.name}, or a CSV with the columns input and reference"
            )
    return find_pairs(source, target, options=options.reading)


def _split(pairs: Sequence[Pair], seed: int) -> tuple[list[Pair], list[Pair]]:
    """Divide the cases by patient: those on which the error head is fitted, and those on which it is calibrated."""
    patients = sorted({str(pair.patient) for pair in pairs})
    needed = fewest_patients(_COVERAGE)
    fitted = max(_FEWEST_FITTED, round(_FITTED * len(patients)))
    if len(patients) - fitted < needed:
        raise UsageError(
            f"{len(patients)} patients: intervals of {_COVERAGE:.0%} need {needed} to calibrate and {_FEWEST_FITTED} "
            f"to fit the error head: give at least {needed + _FEWEST_FITTED + 1}"
        )
    chosen = set(np.random.default_rng(seed).permutation(patients)[:fitted].tolist())
    return [p for p in pairs if str(p.patient) in chosen], [p for p in pairs if str(p.patient) not in chosen]


def _calibrate(direction: Direction, pairs: Sequence[Pair], options: CalibrationOptions) -> Calibration:
    """Return the calibration of one direction."""
    fitting, calibrating = _split(pairs, options.seed)
    slices, samples = [], []
    with progress_bar(f"to {direction.target.name}: measuring errors", len(pairs)) as bar:
        for pair in fitting:
            case = _measured(pair, direction, options)
            if case is not None:
                slices.append(fitting_slices(case))
                samples.append(direction.target.scaling.normalize(case.done.volume.array[case.inside][::_STRIDE]))
            bar.advance()
        if len(slices) < _FEWEST_FITTED:
            raise ReadError(f"{len(slices)} cases could be measured to fit the error head: see the reasons above")
        head = fit_error_head(slices, steps=options.steps, seed=options.seed)
        slices.clear()
        levels = class_levels(direction.target.scaling, samples)
        patients = []
        for patient in sorted({str(pair.patient) for pair in calibrating}):
            own = [pair for pair in calibrating if str(pair.patient) == patient]
            cases = [case for case in (_measured(pair, direction, options) for pair in own) if case is not None]
            if cases:
                patients.append(score_patient(cases, head, levels, options.seed))
            bar.advance(len(own))
    if len(patients) < fewest_patients(_COVERAGE):
        raise ReadError(f"{len(patients)} patients could be measured, too few to calibrate: see the reasons above")
    names = class_names(direction.target.scaling)
    scale = half_range(direction.target.scaling)
    descriptions = [description for patient in patients for description in patient.descriptions]
    return Calibration(
        fingerprint=direction.model.fingerprint,
        generator=direction.generator,
        unit=direction.target.scaling.unit,
        settings={"tta": options.computing.tta, "planes": options.computing.planes},
        classes=names,
        levels=levels,
        head=head,
        quantiles=class_quantiles(patients, names),
        counts={name: sum(name in patient.quantiles for patient in patients) for name in names},
        fitted_on=len({pair.patient for pair in fitting}),
        patients=len(patients),
        ratios=error_ratios(patients, names),
        mae=tuple(round(scale * patient.errors[HEAD][0], 4) for patient in patients),
        reliability=measure_reliability(patients, names),
        familiarity=Familiarity.fit(descriptions),
    )


def _measured(pair: Pair, direction: Direction, options: CalibrationOptions) -> MeasuredCase | None:
    """Return the translated case; None, with an error in the log, if it cannot be measured."""
    reading = dataclasses.replace(options.reading, series=None, split_by=None, volume=None)
    try:
        source = read_found_volume(pair.fake, reading)
        truth = read_found_volume(pair.reference, options.reading)
        return measure_case(source, truth, direction, options.computing, register=options.register)
    except MedCycleGANError as error:
        log.error("%s is left out: %s", one_line(pair.case), error)
        return None
