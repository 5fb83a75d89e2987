"""Score a translated volume and its baselines against a reference of the same patient."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from medcyclegan.errors import IntensityError
from medcyclegan.evaluation.alignment import Aligned, align_volumes
from medcyclegan.evaluation.baselines import input_to_hu, input_to_hu_of_record
from medcyclegan.metrics import InputToHu, head_mask, mae, mae_by_tissue, mean_error, ms_ssim, ncc, psnr, ssim
from medcyclegan.volume import Volume

if TYPE_CHECKING:
    from medcyclegan.model import ModelBundle

__all__ = ["BASELINES", "Evaluation", "Scored", "comparable", "evaluate_volumes", "score_aligned"]

log = logging.getLogger(__name__)

Scored = Literal["fake", "input", "tissue_means", "flat", "water"]

#: Baseline -> description, in the order in which tables show them.
BASELINES: Mapping[str, str] = {
    "input": "the input taken as the output",
    "tissue_means": "the training set's mean CT number for each tissue class of the input",
    "flat": "the reference's median everywhere, the best of all constants",
    "water": "water (0 HU) everywhere",
}

#: The value ranges of the two challenges, in HU.
_HU_2025 = (-1024.0, 3071.0)
_HU_2023 = (-1024.0, 3000.0)
_PERCENTILES = (0.5, 99.5)
#: No warning for a given mask with a smaller fraction of background, or in which it raises the PSNR by less.
_BACKGROUND_SHARE = 0.05
_LIFT_DB = 0.5


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The scores of a volume inside a mask.

    ``mae``, ``psnr`` (dB), ``ms_ssim``: as SynthRAD2025; ``mae_2023``, ``psnr_2023``, ``ssim_2023``: as SynthRAD2023;
    ``mean_error``: fake - reference; ``ncc``: correlation. ``mae_air`` (reference below -200 HU), ``mae_soft_tissue``,
    ``mae_bone`` (200 HU or more): CT only, None if the mask contains none. Errors are in ``unit``, after
    ``normalization``; ``voxels`` is the size of the mask.

    ``scored``: the scored volume, ``"fake"`` or, in a baseline, one of :data:`BASELINES`. ``notes``: one sentence for
    each step that was taken. ``baselines``: name -> the same scores for a method without a network; empty in a
    baseline. ``dose``: the scores of recalculated plans (:class:`~medcyclegan.dose.DoseScores`), if requested;
    ``dose_plan``: what was planned, and the doses on the reference; None in a baseline.
    """

    mae: float
    psnr: float
    ms_ssim: float
    mae_2023: float
    psnr_2023: float
    ssim_2023: float
    mean_error: float
    ncc: float
    mae_air: float | None
    mae_soft_tissue: float | None
    mae_bone: float | None
    voxels: int
    unit: str
    normalization: str
    scored: Scored
    notes: tuple[str, ...] = ()
    baselines: Mapping[str, Evaluation] = dataclasses.field(default_factory=dict)
    dose: Mapping[str, float] | None = None
    dose_plan: Mapping[str, Any] | None = None

    @property
    def baseline(self) -> Evaluation:
        """The baseline with the lowest MAE, which is the one to beat. For a baseline, it is the baseline itself."""
        return min(self.baselines.values(), key=lambda each: each.mae, default=self)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON types; each of ``baselines`` becomes an object with the same keys.

        ``dose`` and ``dose_plan`` exist only if a dose was calculated.
        """
        fields = dataclasses.asdict(dataclasses.replace(self, baselines={}))
        fields["baselines"] = {name: baseline.to_dict() for name, baseline in self.baselines.items()}
        return {name: value for name, value in fields.items() if value is not None or not name.startswith("dose")}


def evaluate_volumes(
    fake: Volume,
    reference: Volume,
    *,
    mask: Volume | NDArray[Any] | None = None,
    baseline: Volume | None = None,
    model: ModelBundle | str | Path | None = None,
    register: Literal["rigid"] | None = None,
    record: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Score ``fake`` against ``reference`` on the grid of the reference ``(I, J, K)``.

    ``mask``: the voxels to score (those above 0), by default the :func:`~medcyclegan.metrics.head_mask` of the
    reference. ``baseline``: the input of the translation. Volumes on other grids are resampled linearly to the grid of
    the reference, and masks to the nearest voxel; ``register="rigid"`` first aligns scans of one patient. These steps
    are recorded in ``.notes`` and logged.

    A score means little without the scores of methods that need no network, which are in ``.baselines``. For outputs
    in HU: the best constant, water, the input if it is in HU itself, and, with ``baseline`` and ``model`` (the one that
    made the fake, or its folder) or ``record`` (the sidecar of the fake), the mean CT number of each tissue class of
    the input in the model's training set.
    For other outputs: the input taken as the output, or, without an input, the best constant.

    CT (by the modality of the reference, or by its values if its header has none) is scored in HU, in the ranges of
    the challenges, and pictures (``value_range``) in grey levels of that range. Other volumes have no unit, so fake,
    baseline and reference are each first scaled linearly, such that the 0.5th and 99.5th percentile of their values in
    the mask become 0 and 1, and clipped to that range. This removes the error that a wrong gain or offset alone would
    cause, for the fake and for the baseline.

    Raises :class:`~medcyclegan.errors.GeometryError` for volumes that do not overlap,
    :class:`~medcyclegan.errors.IntensityError` for non-finite voxels, an empty mask, or no contrast in it, and
    :class:`~medcyclegan.errors.ModelError` for a model that cannot be read.
    """
    to_hu = None
    if baseline is not None and model is not None:
        to_hu = input_to_hu(baseline, model)
    elif baseline is not None and record is not None:
        to_hu = input_to_hu_of_record(record, "the translation")
    evaluation = score_aligned(align_volumes(fake, reference, mask=mask, baseline=baseline, register=register), to_hu)
    for note in evaluation.notes:
        log.warning(note)
    return evaluation


def score_aligned(aligned: Aligned, to_hu: InputToHu | None = None) -> Evaluation:
    """Score volumes that are on one grid; ``to_hu`` maps the input to its tissue means."""
    expected = comparable(aligned.reference.array, aligned, "reference")
    fake = comparable(aligned.fake, aligned, "fake")
    notes = (*aligned.notes, *_background_notes(fake, expected, aligned))
    if to_hu is not None and aligned.reference.modality != "CT":
        notes = (*notes, "the reference is not in HU, so the model's tissue means are not used as a baseline")
    scores = _scores(fake, expected, aligned, "fake")
    return dataclasses.replace(scores, notes=notes, baselines=_baselines(expected, aligned, to_hu))


def _baselines(expected: NDArray[Any], aligned: Aligned, to_hu: InputToHu | None) -> dict[str, Evaluation]:
    """Return the scores of each available baseline, in the order of :data:`BASELINES`."""
    in_hu, source = aligned.reference.modality == "CT", aligned.baseline
    found = {}
    # MR values are not HU: compared with them, anything near the right range would look good.
    if source is not None and (not in_hu or aligned.baseline_in_hu):
        found["input"] = _scores(comparable(source, aligned, "input"), expected, aligned, "input")
    if in_hu and source is not None and to_hu is not None:
        found["tissue_means"] = _scores(to_hu(source), expected, aligned, "tissue_means")
    if in_hu or source is None:
        flat = np.full(expected.shape, np.median(expected[aligned.mask]), dtype=np.float32)
        found["flat"] = _scores(flat, expected, aligned, "flat")
    if in_hu:
        found["water"] = _scores(np.zeros(expected.shape, dtype=np.float32), expected, aligned, "water")
    return found


def comparable(array: NDArray[Any], aligned: Aligned, name: str) -> NDArray[Any]:
    """Return an array ``(I, J, K)`` in the unit of the comparison: HU, grey levels, or 0 to 1."""
    if aligned.reference.modality == "CT" or aligned.reference.value_range is not None:
        return array
    lower, upper = np.percentile(array[aligned.mask], _PERCENTILES)
    if not lower < upper:
        raise IntensityError(
            f"{name}: 99 % of the voxels in the mask are {lower:g}: without contrast nothing can be compared"
        )
    scaled = array.astype(np.float32)
    scaled -= np.float32(lower)
    scaled /= np.float32(upper - lower)
    return np.clip(scaled, 0, 1, out=scaled)


def _scores(fake: NDArray[Any], expected: NDArray[Any], aligned: Aligned, scored: Scored) -> Evaluation:
    where = aligned.mask
    range_2025, range_2023, unit, normalization = _ranges(aligned.reference)
    error = mae(fake, expected, where)
    by_tissue: dict[str, float | None] = dict.fromkeys(("air", "soft_tissue", "bone"))
    if unit == "HU":
        by_tissue = mae_by_tissue(fake, expected, where)
    return Evaluation(
        mae=error,
        psnr=psnr(fake, expected, value_range=range_2025, mask=where),
        ms_ssim=ms_ssim(fake, expected, value_range=range_2025, mask=where),
        mae_2023=error,
        psnr_2023=psnr(fake, expected, value_range=range_2023, mask=where),
        ssim_2023=ssim(fake, expected, value_range=range_2023, mask=where),
        mean_error=mean_error(fake, expected, where),
        ncc=ncc(fake, expected, where),
        mae_air=by_tissue["air"],
        mae_soft_tissue=by_tissue["soft_tissue"],
        mae_bone=by_tissue["bone"],
        voxels=int(np.count_nonzero(where)),
        unit=unit,
        normalization=normalization,
        scored=scored,
    )


def _ranges(reference: Volume) -> tuple[tuple[float, float], tuple[float, float], str, str]:
    """Return the value ranges of 2025 and of 2023, the unit, and the normalization of the values."""
    if reference.modality == "CT":
        return _HU_2025, _HU_2023, "HU", "none"
    if reference.value_range is not None:
        return reference.value_range, reference.value_range, "grey level", "none"
    lower, upper = _PERCENTILES
    normalization = f"percentiles {lower:g} and {upper:g} in the mask mapped to 0 and 1 in each volume, clipped"
    return (0.0, 1.0), (0.0, 1.0), "of the range 0 to 1", normalization


def _background_notes(fake: NDArray[Any], expected: NDArray[Any], aligned: Aligned) -> tuple[str, ...]:
    """Return a warning if a given mask contains so much air, which any method gets right, that it raises the score."""
    if not aligned.mask_given:
        return ()
    try:
        head = head_mask(aligned.reference) & aligned.mask
    except IntensityError:
        return ()
    share = 1 - int(np.count_nonzero(head)) / int(np.count_nonzero(aligned.mask))
    if share < _BACKGROUND_SHARE or not head.any():
        return ()
    value_range = _ranges(aligned.reference)[0]
    with_air, without = (psnr(fake, expected, value_range=value_range, mask=m) for m in (aligned.mask, head))
    if with_air - without < _LIFT_DB or not np.isfinite(with_air):
        return ()
    return (
        f"{share:.0%} of the mask is background, which lifts the score: PSNR is {with_air:.2f} dB in the mask, "
        f"{without:.2f} dB in the patient; give a mask of the patient, or leave --mask out",
    )
