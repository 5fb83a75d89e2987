"""A verdict on one translation: what was measured, and what of it is unlike the training set."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

from medcyclegan.inference.flicker import measure_flicker
from medcyclegan.inference.planes import spread_slices
from medcyclegan.inference.runtime.options import InferenceOptions
from medcyclegan.inference.translate import Translation
from medcyclegan.inference.uncertainty import cycle_error
from medcyclegan.model.bundle import ModelBundle
from medcyclegan.model.fitness import Finding, Fitness, Verdict, gravest, judge_model
from medcyclegan.model.training_set import TrainingSet, acquisition, axial_spacing, histogram_of
from medcyclegan.volume import Volume

__all__ = ["Quality", "assess"]

log = logging.getLogger(__name__)

#: Slices on which the cycle error is measured.
_CYCLED = 5
#: From here on a number is worth a reason: chosen on phantoms and on the real scans of the tests.
_MOST_CLIPPED, _MOST_FLICKER, _MOST_CYCLE_ERROR = 0.01, 0.15, 0.1
#: A histogram is odd this many times the training set's own spread away from it, and alien from there on.
_ODD_HISTOGRAM, _ALIEN_HISTOGRAM = 2.0, 6.0
#: A training set of one or two volumes has no spread to speak of; scaled units.
_LEAST_SPREAD = 0.02
#: Spacing this many times beyond the training set's is unlike it.
_SPACING_FACTOR = 1.5


@dataclasses.dataclass(frozen=True)
class Quality:
    """What speaks for and against one translation: what was measured of it, and the fitness of its model.

    ``flicker``: :func:`~medcyclegan.inference.flicker.measure_flicker`. ``clipped_share``: of
    the input's voxels. ``cycle_error``: mean of |G_BA(G_AB(x)) - x| over the foreground of some slices, as a share of
    the input's range. ``histogram_score``: the distance of the input's histogram from the training set's, in
    multiples of the largest that a training volume has; None where the model does not say. ``spacing_mm``: of the
    input's rows, columns and slices in the axial plane; ``acquisition``: its plane. ``verdict``: ``ok`` (nothing
    that was measured speaks against it), ``check`` (somebody should look), ``doubtful`` (the input is unlike what the
    model was trained on, or the model itself is unfit). ``reasons``: for a verdict that is not ``ok``, a sentence
    each, the model's first. docs/verdict.md lists the limits.
    """

    flicker: float | None
    clipped_share: float
    cycle_error: float
    histogram_score: float | None
    spacing_mm: tuple[float, float, float]
    acquisition: str
    verdict: Verdict
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON types."""
        return dataclasses.asdict(self)


def assess(
    volume: Volume,
    done: Translation,
    bundles: Sequence[ModelBundle],
    computing: InferenceOptions,
    *,
    forced: bool = False,
) -> Quality:
    """Measure the translation ``done`` of ``volume``, judge it and its models, and warn of what is found.

    Takes a few slices through the other generator. ``forced``: the input is of a modality that the model
    does not know.
    """
    known = _training_set(bundles[0], done.source.name)
    error = cycle_error(volume, done, bundles, computing, spread_slices(volume, _CYCLED))
    clipped = done.scaling.count_clipped(volume.array) / volume.array.size
    flicker = measure_flicker(volume, done, bundles[0], computing.planes)
    score = None if known is None else _histogram_score(volume, done, known)
    findings = _judge_models(done, bundles)
    if forced:
        findings.append(("doubtful", "the input is not of the modality that the model was trained on"))
    findings += _judge_numbers(clipped, flicker, error, score, planes=computing.planes)
    if known is not None:
        findings += [("check", reason) for reason in _odd_places(volume, known)]
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
    )


def _judge_models(done: Translation, bundles: Sequence[ModelBundle]) -> list[Finding]:
    """Return what speaks against the models themselves; of several, each reason once."""
    findings: dict[Finding, None] = {}
    for bundle in bundles:
        direction = bundle.direction(done.target.name)[0].removeprefix("G_")
        findings |= dict.fromkeys(
            judge_model(Fitness.of(bundle.provenance), done.source.name, done.target.name, direction)
        )
    return list(findings)


def _judge_numbers(
    clipped: float, flicker: float | None, error: float, score: float | None, *, planes: str
) -> list[Finding]:
    findings: list[Finding] = []
    if clipped > _MOST_CLIPPED:
        reason = f"{clipped:.1%} of the input's voxels lie outside the scaled range and were clipped"
        findings.append(("check", reason))
    if flicker is not None and flicker > _MOST_FLICKER:
        advice = ": --planes three is smoother" if planes == "axial" else ""
        findings.append(("check", f"it changes {flicker:.0%} more than the input from slice to slice{advice}"))
    if error > _MOST_CYCLE_ERROR:
        reason = f"translated back it is off by {error:.1%} of the input's range on average"
        findings.append(("check", reason))
    if score is not None and score > _ODD_HISTOGRAM:
        reason = f"the input's histogram is {score:.1f} times as odd as any training volume's: another contrast?"
        findings.append(("doubtful" if score > _ALIEN_HISTOGRAM else "check", reason))
    return findings


def _odd_places(volume: Volume, known: TrainingSet) -> list[str]:
    """Return what of the input's grid is unlike that of all training volumes."""
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
    """Return what ``model.json`` says of the domain's training volumes; None where it says nothing of use."""
    try:
        return TrainingSet.from_dict(bundle.provenance["training_set"][domain])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        log.info("this model does not say what its %s volumes were like: the input is not compared with them", domain)
        return None


def _histogram_score(volume: Volume, done: Translation, known: TrainingSet) -> float | None:
    step = max(1, round((volume.array.size / 1e6) ** (1 / 3)))
    sample = volume.array[tuple(slice(None, None, step if n >= 4 * step else 1) for n in volume.shape)]
    histogram = histogram_of(done.scaling.normalize(sample))
    if histogram is None:
        return None
    return known.histogram_distance(histogram) / max(known.histogram_spread, _LEAST_SPREAD)
