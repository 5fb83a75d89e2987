"""Score pairs of volumes one by one, so that a bad file affects only one case."""

from __future__ import annotations

import bisect
import dataclasses
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medcyclegan.errors import MedCycleGANError, ReadError, UsageError, one_line
from medcyclegan.evaluation.alignment import Aligned, align_volumes
from medcyclegan.evaluation.baselines import input_to_hu, input_to_hu_of_record
from medcyclegan.evaluation.dose import check_dose_pair, with_dose
from medcyclegan.evaluation.evaluate import Evaluation, comparable, score_aligned
from medcyclegan.evaluation.pairs import Pair
from medcyclegan.io import FoundVolume, ReadOptions, read_found_volume, read_translation_record, write_volume
from medcyclegan.io.formats import VOLUME_ENDINGS
from medcyclegan.metrics import InputToHu
from medcyclegan.pictures import comparison_picture, png_bytes
from medcyclegan.progress import progress_bar
from medcyclegan.storage import check_output
from medcyclegan.volume import Volume

if TYPE_CHECKING:
    from medcyclegan.model import ModelBundle

__all__ = ["PICTURED_CASES", "CaseScores", "EvaluationOptions", "Refusal", "evaluate_pairs"]

log = logging.getLogger(__name__)

#: The number of cases with the smallest, and with the largest, errors that get a picture.
PICTURED_CASES = 3
#: The error that is white in pictures, in HU or as a fraction of the range.
_ERROR_HU = 300.0
_ERROR_SHARE = 0.5
#: The display window of CT in pictures, which shows bone and soft tissue.
_CT_WINDOW_HU = (-300.0, 700.0)


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """Options for the evaluation of pairs.

    ``modality``: that of the references; overrides their headers. ``register``: ``"rigid"`` or None. ``reading``:
    options of :func:`~medcyclegan.io.read_volume`. ``save_mask``: a file for a single pair, a folder for several.
    ``pictures``: whether the best and the worst cases get pictures. ``overwrite``: whether masks may be replaced.
    ``model``: the model that made the fakes, for the baseline from its training set; None: use their sidecars.
    ``dose``: whether plans are made on the reference and calculated again on the fake and its baselines.
    """

    modality: Literal["CT", "MR"] | None = None
    register: Literal["rigid"] | None = None
    reading: ReadOptions = dataclasses.field(default_factory=ReadOptions)
    save_mask: Path | None = None
    pictures: bool = False
    overwrite: bool = False
    model: ModelBundle | None = None
    dose: bool = False


@dataclasses.dataclass(frozen=True)
class CaseScores:
    """The scores of a case.

    ``picture``: the bytes of a PNG, if the case was among the best or worst so far. ``patient``: identifies the
    patient (:attr:`~medcyclegan.evaluation.Pair.patient`); None: no other case is of the same patient.
    """

    case: str
    evaluation: Evaluation
    picture: bytes | None = None
    patient: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the case, its patient and its scores as plain JSON types."""
        return {"case": self.case, "patient": self.patient or self.case, **self.evaluation.to_dict()}


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A case that could not be scored, and the reason in one line."""

    case: str
    reason: str


def evaluate_pairs(pairs: Sequence[Pair], options: EvaluationOptions) -> Iterator[CaseScores | Refusal]:
    """Yield the scores of each pair, or the reason why it has none; one pair of volumes is in memory at a time.

    If there is only one pair, its :class:`~medcyclegan.errors.MedCycleGANError` is raised instead.
    """
    masks = _mask_files(pairs, options)
    logged: set[str] = set()
    errors: list[float] = []
    with progress_bar("evaluating", len(pairs)) as bar:
        for number, (pair, mask_file) in enumerate(zip(pairs, masks, strict=True), start=1):
            try:
                scores = _evaluate(pair, options, mask_file, errors)
            except MedCycleGANError as error:
                if len(pairs) == 1:
                    raise
                log.error("case %d, %s: %s", number, one_line(pair.case), error)
                yield Refusal(pair.case, str(error))
            else:
                _log_notes(scores, logged, alone=len(pairs) == 1)
                yield scores
            bar.advance()


def _log_notes(scores: CaseScores, logged: set[str], *, alone: bool) -> None:
    """Log the notes of a case; notes of several cases that differ only in their numbers are logged once."""
    for note in scores.evaluation.notes:
        kind = re.sub(r"[0-9.]+", "", note)
        if kind not in logged:
            logged.add(kind)
            log.warning("%s", note if alone else f"{one_line(scores.case)}: {note} (for other cases, see their notes)")


def _evaluate(pair: Pair, options: EvaluationOptions, mask_file: Path | None, errors: list[float]) -> CaseScores:
    _check_swapped(pair)
    shared = dataclasses.replace(options.reading, series=None, split_by=None, volume=None)
    reference = read_found_volume(pair.reference, options.reading)
    fake = read_found_volume(pair.fake, shared)
    source = None if pair.source is None else read_found_volume(pair.source, shared)
    reference = _with_modality(reference, pair, options.modality)
    if options.dose:
        check_dose_pair(fake, reference)
    aligned = align_volumes(
        fake,
        reference,
        mask=None if pair.mask is None else read_found_volume(pair.mask, shared),
        baseline=source,
        register=options.register,
    )
    to_hu = None if source is None else _input_to_hu(source, pair, options)
    evaluation = score_aligned(aligned, to_hu)
    if options.dose:
        target = None if pair.target is None else read_found_volume(pair.target, shared)
        organs = {name: read_found_volume(found, shared) for name, found in pair.organs.items()}
        evaluation = with_dose(evaluation, aligned, to_hu, target, organs)
    if mask_file is not None:
        mask = aligned.reference.replace(array=aligned.mask.astype(np.uint8), modality=None, value_range=None)
        write_volume(mask, mask_file, overwrite=True)  # checked before the first case
    drawn = options.pictures and _is_extreme(evaluation.mae, errors)
    return CaseScores(pair.case, evaluation, _picture(aligned, evaluation) if drawn else None, pair.patient)


def _input_to_hu(source: Volume, pair: Pair, options: EvaluationOptions) -> InputToHu | None:
    """Return what takes the input to its tissue means: by the model that the options name, else by the sidecar."""
    if options.model is not None:
        return input_to_hu(source, options.model)
    return input_to_hu_of_record(_sidecar(pair.fake), pair.case)


def _is_extreme(error: float, errors: list[float]) -> bool:
    """Insert ``error`` into the sorted ``errors`` of earlier cases; return whether it is an extreme one."""
    place = bisect.bisect(errors, error)
    errors.insert(place, error)
    return place < PICTURED_CASES or place >= len(errors) - PICTURED_CASES


def _mask_files(pairs: Sequence[Pair], options: EvaluationOptions) -> list[Path | None]:
    """Return the path of each pair's mask; several are numbered, because a case name may not be a valid file name."""
    if options.save_mask is None:
        return [None] * len(pairs)
    if len(pairs) == 1:
        if not options.save_mask.name.lower().endswith(VOLUME_ENDINGS):
            raise UsageError(
                f"--save-mask {options.save_mask}: the mask is a volume: choose a name that ends in .nii.gz"
            )
        files = [options.save_mask]
    else:
        files = [options.save_mask / f"{number:04d}.nii.gz" for number in range(1, len(pairs) + 1)]
    for file in files:
        check_output(file, overwrite=options.overwrite)
    return list(files)


def _with_modality(reference: Volume, pair: Pair, modality: str | None) -> Volume:
    """Return the reference with a modality: the caller's, its own, or that of the translation's target domain."""
    if modality is not None:
        return reference.replace(modality=modality)
    made = _sidecar(pair.fake).get("to")
    if reference.modality is None and reference.value_range is None and isinstance(made, Mapping):
        found = made.get("modality")
        return reference.replace(modality=found) if found in ("CT", "MR") else reference
    return reference


def _check_swapped(pair: Pair) -> None:
    """Refuse a reference whose sidecar marks it as a translation, unless the fake is marked too."""
    if not _sidecar(pair.reference).get("synthetic"):
        return
    if not _sidecar(pair.fake).get("synthetic"):
        raise UsageError(
            f"{pair.reference.path.name} is a translation according to its sidecar, and {pair.fake.path.name} is "
            "not: the order is FAKE REFERENCE; swap them"
        )
    log.warning("%s: according to its sidecar, the reference is also a translation", one_line(pair.case))


def _sidecar(found: FoundVolume) -> Mapping[str, Any]:
    """Return the record that translate-volume wrote next to a volume, or an empty one."""
    try:
        return read_translation_record(found.path)
    except ReadError:
        return {}


def _picture(aligned: Aligned, evaluation: Evaluation) -> bytes:
    """Return input, fake, reference and error in three planes as a PNG."""
    arrays = {"input": aligned.baseline, "fake": aligned.fake, "reference": aligned.reference.array}
    fake, expected = (comparable(array, aligned, name) for name, array in list(arrays.items())[1:] if array is not None)
    error = np.where(aligned.mask, np.abs(fake.astype(np.float32) - expected), np.float32(0))
    blank = aligned.reference.replace(source=None, notes=())
    shown = {name: blank.replace(array=array) for name, array in arrays.items() if array is not None}
    limits = {name: _limits(volume, aligned, name) for name, volume in shown.items()}
    in_hu = evaluation.unit == "HU"
    width = 1.0 if aligned.reference.value_range is None else float(np.ptp(aligned.reference.value_range))
    return png_bytes(
        comparison_picture(
            shown,
            blank.replace(array=error),
            limits=limits,
            error_limit=_ERROR_HU if in_hu else _ERROR_SHARE * width,
            unit="HU" if in_hu else "" if width == 1.0 else "grey levels",
        )
    )


def _limits(volume: Volume, aligned: Aligned, name: str) -> tuple[float, float]:
    """Return the values shown black and white: a fixed window for CT, percentiles in the mask for other volumes."""
    if aligned.reference.value_range is not None:
        return aligned.reference.value_range
    if aligned.reference.modality == "CT" and name != "input":
        return _CT_WINDOW_HU
    lower, upper = np.percentile(volume.array[aligned.mask], (0.5, 99.5))
    return min(float(lower), 0.0) if name != "input" else float(lower), float(upper)
