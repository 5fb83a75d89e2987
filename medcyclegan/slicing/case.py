"""Cut one volume into one stack of slices: the work of a worker process of ``slice_volumes``."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import warnings
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from numpy.typing import NDArray

from medcyclegan.config import Domain, Slicing
from medcyclegan.errors import IntensityError, MedCycleGANError
from medcyclegan.io import FoundVolume, ReadOptions, anonymous_reason, read_found_volume
from medcyclegan.io.dicom.read.series import short_uid
from medcyclegan.io.notes import Note, Notes, collected_notes
from medcyclegan.manifest import PatientSource, Registration, SliceRow, Split
from medcyclegan.plane import PlaneFit
from medcyclegan.registration import same_grid
from medcyclegan.slicing.domains import choose_modality
from medcyclegan.slicing.patients import describe_likeness
from medcyclegan.slicing.registering import Registered, register_onto
from medcyclegan.slicing.store import Refusal, SliceStore
from medcyclegan.slicing.transforms import AxialOrientationd, AxialSlicesd, PlaneFitd, ScaleToMinusOneOned
from medcyclegan.volume import Volume

__all__ = ["CaseJob", "CaseResult", "Partner", "cut_slices", "preparation_of", "refuse_case", "slice_case"]

log = logging.getLogger(__name__)

#: The axes of a stack are those closest to the patient's; larger angles than this are noted.
_OBLIQUE_DEGREES = 2.0


@dataclasses.dataclass(frozen=True)
class Partner:
    """A volume of the same patient in another domain; the fields are those of :class:`CaseJob`."""

    found: FoundVolume
    domain: str
    settings: Domain
    case: str
    headers: str | None = None


@dataclasses.dataclass(frozen=True)
class CaseJob:
    """Everything a worker needs for one volume; ``case``, ``patient``, ``input`` and ``origin`` are keyed hashes.

    ``headers``: the modality in the DICOM headers of the domain. ``partner``: the volume onto whose grid it is brought.
    """

    found: FoundVolume
    reading: ReadOptions
    domain: str
    settings: Domain
    slicing: Slicing
    store: SliceStore
    case: str
    patient: str
    patient_source: PatientSource
    split: Split
    input: str
    origin: tuple[str, str]
    headers: str | None = None
    partner: Partner | None = None


def preparation_of(slicing: Slicing, settings: Domain) -> dict[str, Any]:
    """Return the settings on which a stack depends; stored in its row, so that different ones are not mixed."""
    chosen = slicing.model_dump(include={"size", "fit", "pixel_mm", "foreground", "dtype"})
    if slicing.registration:
        chosen["registration"] = True
    return {**chosen, "modality": settings.modality, **settings.scaling.model_dump(mode="json")}


@dataclasses.dataclass(frozen=True)
class CaseResult:
    """What became of a volume: its row, or a refusal, and the reader's notes on it."""

    outcome: SliceRow | Refusal
    notes: tuple[Note, ...] = ()


def slice_case(job: CaseJob) -> CaseResult:
    """Read, slice and store one volume; the outcome is a :class:`Refusal` for a volume that is refused."""
    with collected_notes() as notes:
        outcome = _slice_and_store(job)
    return CaseResult(outcome, tuple(notes))


def _slice_and_store(job: CaseJob) -> SliceRow | Refusal:
    try:
        volume = read_found_volume(job.found, job.reading)
        row, stack = _slice(volume, job)
    except MemoryError:
        return refuse_case(job, "not enough memory to read it: use fewer --workers")
    except MedCycleGANError as error:
        return refuse_case(job, str(error))
    job.store.save_case(row, stack)
    return row


def _slice(volume: Volume, job: CaseJob) -> tuple[SliceRow, NDArray[np.floating]]:
    modality = choose_modality(volume, job.domain, job.settings, job.headers)
    acquired = describe_likeness(volume)
    brought = _bring_onto_partner(volume.replace(modality=modality), job)
    volume = volume if brought.volume is None else brought.volume.replace(modality=volume.modality)
    items = cut_slices(volume, modality, job.slicing, job.settings, brought.placement)
    kept, stack = items["image_slices"], items["image"].numpy()
    if brought.complete is not None:
        whole = [n for n, index in enumerate(kept) if brought.complete[index]]
        kept, stack = tuple(kept[n] for n in whole), stack[whole]
    if not kept:
        raise IntensityError(
            f"no slice shows foreground on {job.slicing.foreground:.0%} of its pixels: an empty volume, or lower "
            "slicing.foreground"
        )
    values = np.ascontiguousarray(stack, dtype=job.slicing.dtype)
    heights = np.zeros(1) if len(kept) == 1 else (np.array(kept) - kept[0]) / (kept[-1] - kept[0])
    row = SliceRow(
        domain=job.domain,
        case=job.case,
        patient=job.patient,
        split=job.split,
        file=f"{job.domain}/{job.case}.npy",
        shape=volume.shape,
        affine=tuple(tuple(float(x) for x in line) for line in volume.affine),  # type: ignore[misc]
        slices=kept,
        heights=tuple(round(float(h), 6) for h in heights),
        pixel_mm=items["image_fit"].pixel_mm,
        modality=modality,
        scaling=items["image_scaling"].to_dict(),
        preparation=preparation_of(job.slicing, job.settings),
        input=job.input,
        cropped=items["image_fit"].cuts,
        notes=_remarks(volume),
        content=hashlib.sha256(values.data).hexdigest(),
        patient_source=job.patient_source,
        registration=brought.record,
        likeness=acquired,
        origin=job.origin,
    )
    return row, values


def _bring_onto_partner(volume: Volume, job: CaseJob) -> Registered:
    """Bring a volume onto the grid of its partner, unless it has none, or is on this grid already.

    A registration that is refused is reported in one line. A partner that cannot be sliced counts as refused too.
    """
    partner = job.partner
    if partner is None:
        return Registered()
    try:
        other = read_found_volume(partner.found, job.reading)
        modality = choose_modality(other, partner.domain, partner.settings, partner.headers)
        if same_grid(volume, other):
            return Registered()
        placement = cut_slices(other, modality, job.slicing, partner.settings)["image_fit"]
    except MedCycleGANError as error:
        reason = f"{partner.domain} of this patient cannot be sliced: {error}"
        brought = Registered(Registration(partner.case, refused=anonymous_reason(reason, partner.found)))
    else:
        brought = register_onto(volume, other.replace(modality=modality), partner.case)
        brought = dataclasses.replace(brought, placement=placement if brought.volume is not None else None)
    if brought.record is not None and brought.record.refused:
        Notes(log, job.found.name).warn(
            f"not brought onto the grid of {partner.domain}, so this patient is not paired: {brought.record.refused}"
        )
    return brought


def cut_slices(
    volume: Volume, modality: str | None, slicing: Slicing, settings: Domain, placement: PlaneFit | None = None
) -> dict[Any, Any]:
    """Run the public transforms on one volume; ``placement``: that of another volume on the same grid.

    Returns their dictionary: ``image`` (kept, size, size) in [-1, 1], ``image_slices``, ``image_scaling``,
    ``image_fit``. The slice of a 2-D picture is always kept.
    """
    native = np.ascontiguousarray(volume.array, dtype=volume.array.dtype.newbyteorder("="))
    values = native.astype(np.float32) if native.dtype.kind == "u" and native.itemsize > 1 else native
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`data_array` is not of type `MetaTensor")
        image = MetaTensor(torch.from_numpy(values)[None], affine=torch.from_numpy(volume.affine.copy()))
        chain = Compose(
            [
                ScaleToMinusOneOned("image", modality, value_range=volume.value_range, **settings.scaling.model_dump()),
                AxialOrientationd("image"),
                PlaneFitd("image", slicing.size, slicing.fit, slicing.pixel_mm, placement=placement),
                AxialSlicesd("image", 0.0 if volume.value_range else slicing.foreground),
            ]
        )
        try:
            result: dict[Any, Any] = chain({"image": image})
        except RuntimeError as error:
            # MONAI wraps every exception of a transform; the user needs the error inside it.
            if isinstance(error.__cause__, MedCycleGANError):
                raise error.__cause__ from None
            raise
    return result


def _remarks(volume: Volume) -> tuple[str, ...]:
    """Return remarks on the geometry for the manifest; they contain no text of the header."""
    remarks = []
    if volume.oblique_degrees > _OBLIQUE_DEGREES:
        remarks.append(f"oblique by {volume.oblique_degrees:.1f} degrees: sliced along its own closest-to-axial plane")
    if volume.shear_degrees > 0.1:
        remarks.append(f"sheared by {volume.shear_degrees:.1f} degrees (tilted gantry)")
    if volume.is_synthetic:
        remarks.append("synthetic, not acquired (--allow-synthetic)")
    return tuple(remarks)


def refuse_case(job: CaseJob, reason: str) -> Refusal:
    """Return a refusal whose reason names no file, folder or series of the input; the log names them."""
    place, uid = str(job.found.path), job.found.series_uid
    reason = reason.removeprefix(f"{place}: ")
    named = place if uid is None or short_uid(uid) in reason else f"{place}, series {short_uid(uid)}"
    log.warning("%s refused: %s", named, reason)
    return Refusal(job.domain, job.case, anonymous_reason(reason, job.found), job.origin)
