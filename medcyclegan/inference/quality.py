"""Assess a translation: measurements, comparison with the training set, and a verdict."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

from medcyclegan.inference.flicker import measure_flicker
from medcyclegan.inference.intervals.half_width import CaseError, expect_case_error
from medcyclegan.inference.planes import spread_slices
from medcyclegan.inference.runtime.options import InferenceOptions
from medcyclegan.inference.translate import Translation
from medcyclegan.inference.uncertainty import cycle_error
from medcyclegan.intensity import even_sample
from medcyclegan.model.bundle import Direction, ModelBundle
from medcyclegan.model.calibration import HEAD, Calibration
from medcyclegan.model.fitness import Finding, Fitness, Verdict, gravest, judge_model
from medcyclegan.model.training_set import TrainingSet
from medcyclegan.slicing.measures import acquisition, axial_spacing, histogram_of
from medcyclegan.volume import Volume

__all__ = ["Quality", "assess"]

log = logging.getLogger(__name__)

#: Slices on which the cycle error is measured.
_CYCLED = 5
#: Measurements above these limits are findings; chosen on phantoms and on the real scans of the tests.
_MOST_CLIPPED, _MOST_FLICKER, _MOST_CYCLE_ERROR = 0.01, 0.15, 0.1
#: A histogram at more than these multiples of the training set's own spread is unusual, or from another contrast.
_ODD_HISTOGRAM, _ALIEN_HISTOGRAM = 2.0, 6.0
#: Minimum spread, because one or two training volumes have almost none; scaled units.
_LEAST_SPREAD = 0.02
#: An input is unfamiliar up to this p-value; beyond this multiple of the farthest calibration patient it is alien.
_UNFAMILIAR, _ALIEN_DISTANCE = 0.04, 1.2
#: About this many voxels of an output make its histogram.
_HISTOGRAM_VOXELS = 1_000_000
#: Spacing outside the training set's range by more than this factor is a finding.
_SPACING_FACTOR = 1.5


@dataclasses.dataclass(frozen=True)
class Quality:
    """The quality of one translation: its measurements, and a verdict that includes the fitness of its model.

    ``flicker``: :func:`~medcyclegan.inference.flicker.measure_flicker`. ``clipped_share``: of
    the input's voxels. ``cycle_error``: mean of |G_BA(G_AB(x)) - x| over the foreground of some slices, as a share of
    the input's range. ``histogram_score``: the distance of the input's histogram from the training set's, in
    multiples of the largest distance of a training volume; None if the model does not record it. ``spacing_mm``: of
    the input's rows, columns and slices in the axial plane; ``acquisition``: its plane. ``verdict``: ``ok`` (no
    measurement is unusual), ``check`` (somebody should look at it), ``doubtful`` (the input is unlike the training
    data, or the model itself is unfit). ``reasons``: one sentence for each finding, the model's first.
    ``expected_error``: region to the MAE to expect and the interval that contains it in 9 of 10 patients, in the
    output's unit, and ``familiarity``: how unusual the input is among the calibration patients, a p-value
    (:class:`~medcyclegan.inference.intervals.half_width.CaseError`); None if the model is not calibrated.
    docs/verdict.md lists the limits.
    """

    flicker: float | None
    clipped_share: float
    cycle_error: float
    histogram_score: float | None
    spacing_mm: tuple[float, float, float]
    acquisition: str
    verdict: Verdict
    reasons: tuple[str, ...]
    expected_error: Mapping[str, Any] | None = None
    familiarity: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON types."""
        return dataclasses.asdict(self)


def assess(
    volume: Volume,
    done: Translation,
    computing: InferenceOptions,
    *,
    forced: bool = False,
    calibration: Calibration | None = None,
) -> Quality:
    """Measure the translation ``done`` of ``volume``, judge it and its models, and log a warning for each finding.

    A few slices are translated back by the other generator. ``forced``: the input is of a modality that the model
    was not trained on. ``calibration``: that of these translations, if there is one.
    """
    known = _training_set(done.direction.model, done.direction.source.name)
    error = cycle_error(volume, done, computing, spread_slices(volume, _CYCLED))
    clipped = done.scaling.count_clipped(volume.array) / volume.array.size
    flicker = measure_flicker(volume, done, computing.planes)
    score = None if known is None else _histogram_score(volume, done, known)
    findings = _judge_models(done.direction)
    if forced:
        findings.append(("doubtful", "the input is not of the modality that the model was trained on"))
    findings += _judge_numbers(clipped, flicker, error, score, planes=computing.planes)
    if known is not None:
        findings += [("check", reason) for reason in _odd_places(volume, known)]
    case = None if calibration is None else expect_case_error(volume, done, calibration)
    if case is not None and calibration is not None:
        findings += _judge_case(case, calibration)
    for _, reason in findings:
        log.warning("quality: %s", reason)
    return Quality(
        flicker=None if flicker is None else round(flicker, 4),
        clipped_share=round(clipped, 6),
        cycle_error=round(error, 5),
        histogram_score=None if score is None else round(score, 3),
        spacing_mm=axial_spacing(volume),
        acquisition=acquisition(volume),
        verdict=gravest(findings),
        reasons=tuple(reason for _, reason in findings),
        expected_error=None if case is None else case.to_dict(),
        familiarity=None if case is None else round(case.p_value, 4),
    )


def _judge_models(used: Direction) -> list[Finding]:
    """Return the findings against the models themselves, without duplicates if there are several."""
    findings: dict[Finding, None] = {}
    for bundle in used.models:
        fitness = Fitness.of(bundle.provenance)
        findings |= dict.fromkeys(
            judge_model(fitness, used.source.name, used.target.name, used.generator.removeprefix("G_"))
        )
    return list(findings)


def _judge_numbers(
    clipped: float, flicker: float | None, error: float, score: float | None, *, planes: str
) -> list[Finding]:
    findings: list[Finding] = []
    if clipped > _MOST_CLIPPED:
        reason = f"{clipped:.1%} of the input's voxels are outside the scaled range and were clipped"
        findings.append(("check", reason))
    if flicker is not None and flicker > _MOST_FLICKER:
        advice = ": --planes three is smoother" if planes == "axial" else ""
        findings.append(("check", f"it varies {flicker:.0%} more than the input from slice to slice{advice}"))
    if error > _MOST_CYCLE_ERROR:
        reason = f"translated back, it differs from the input by {error:.1%} of the input's range on average"
        findings.append(("check", reason))
    if score is not None and score > _ODD_HISTOGRAM:
        reason = f"the input's histogram is {score:.1f} times as unusual as any training volume's: another contrast?"
        findings.append(("doubtful" if score > _ALIEN_HISTOGRAM else "check", reason))
    return findings


def _judge_case(case: CaseError, calibration: Calibration) -> list[Finding]:
    """Return the findings against a case by its expected error and its distance from the calibration patients."""
    findings: list[Finding] = []
    if case.p_value <= _UNFAMILIAR:
        far = case.distance > _ALIEN_DISTANCE * case.farthest
        reason = (
            f"the input or its translation is unlike those of the {calibration.patients} calibration patients "
            f"(distance {case.distance / case.farthest:.2f}, where the farthest of them has 1): another contrast, "
            "body part, orientation, or artifacts?"
        )
        findings.append(("doubtful" if far else "check", reason))
    mae, most = case.regions[HEAD][0], calibration.usual_mae()
    if mae > most:
        unit = calibration.unit
        reason = f"the expected MAE is {mae:.3g} {unit}: 95 % of the calibration patients have at most {most:.3g}"
        findings.append(("check", reason))
    return findings


def _odd_places(volume: Volume, known: TrainingSet) -> list[str]:
    """Return the ways in which the input's grid differs from those of all training volumes."""
    rows, columns, slices = axial_spacing(volume)
    reasons = []
    for name, values, (least, most) in (
        ("pixels", (rows, columns), known.pixel_mm),
        ("axial slice spacing", (slices,), known.slice_mm),
    ):
        if min(values) * _SPACING_FACTOR < least or max(values) > most * _SPACING_FACTOR:
            found = " x ".join(f"{mm:.3g}" for mm in values)
            reasons.append(f"{name} of {found} mm, where the training set's were {least:.3g} to {most:.3g} mm")
    if acquisition(volume) not in known.acquisitions:
        names = " and ".join(sorted(known.acquisitions))
        reasons.append(f"acquired {acquisition(volume)}, where the training set's volumes are {names}")
    return reasons


def _training_set(bundle: ModelBundle, domain: str) -> TrainingSet | None:
    """Return the summary of the domain's training volumes in ``model.json``; None if it is missing or invalid."""
    try:
        return TrainingSet.from_dict(bundle.provenance["training_set"][domain])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        log.info("this model has no summary of its %s training volumes: the input is not compared with them", domain)
        return None


def _histogram_score(volume: Volume, done: Translation, known: TrainingSet) -> float | None:
    sample = volume.array[even_sample(volume.shape, _HISTOGRAM_VOXELS)]
    histogram = histogram_of(done.scaling.normalize(sample))
    if histogram is None:
        return None
    return known.histogram_distance(histogram) / max(known.histogram_spread, _LEAST_SPREAD)
