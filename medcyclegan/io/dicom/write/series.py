"""Write a derived DICOM series: classic single-frame CT or MR images, a complete folder or none at all."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from medcyclegan.errors import VolumeError, WriteError
from medcyclegan.io.dicom.read.headers import DicomFile, read_header, walk_files
from medcyclegan.io.dicom.read.pixels import read_frames, rescale_frames
from medcyclegan.io.dicom.read.plan import plan_series
from medcyclegan.io.dicom.read.series import choose_series, scan_files
from medcyclegan.io.dicom.values import quiet, text
from medcyclegan.io.dicom.write.coding import PixelCoding, find_coding
from medcyclegan.io.dicom.write.deidentify import check_deidentifiable, deidentify_image
from medcyclegan.io.dicom.write.image import build_image, build_series
from medcyclegan.io.dicom.write.origin import find_origin
from medcyclegan.io.dicom.write.pseudonyms import check_key_file, find_pseudonym
from medcyclegan.io.notes import Notes
from medcyclegan.io.options import ReadOptions
from medcyclegan.storage import atomic_folder
from medcyclegan.volume import Volume

__all__ = ["check_dicom_input", "check_replaceable", "write_dicom_series"]

_log = logging.getLogger(__name__)

_OUR_NAME = re.compile(r"\d{4,}\.dcm")
#: The largest shift, in mm, of a voxel that was read back: numbers have 16 characters.
_SAME_MM = 1e-4


def write_dicom_series(
    volume: Volume,
    folder: Path,
    *,
    template: Path | None = None,
    deidentify: bool = False,
    pseudonyms: Path | None = None,
) -> None:
    """Write ``volume``, CT or MR, as a derived series into the new folder ``folder``: ``0001.dcm``, ``0002.dcm``, ...

    A volume that was read from DICOM is written slice by slice at its position, a tilted one too, with the patient,
    study and frame of reference of its source; one from multi-frame files or mosaics as single-frame images. Another
    volume needs ``template``, a folder with one DICOM series whose patient and study it gets; it shares the template's
    frame of reference only if it has its grid. CT is stored as int16 in HU with slope 1, MR as 16-bit numbers without a
    rescale. SyntheticData (0008,001C) is YES. The UIDs are derived from the source, the model and the version, so
    repeating a translation gives the same series.

    ``deidentify`` leaves the patient and the study out (:mod:`medcyclegan.io.dicom.write.deidentify`); UIDs are then
    random. With the key file ``pseudonyms`` (:mod:`medcyclegan.io.dicom.write.pseudonyms`), the patient gets a
    pseudonym and the study a shifted date, and every run with this file gives the same UIDs.

    Before the folder gets its name it is read back and compared: affine to 1e-4 mm, every voxel. An existing folder is
    replaced only if it contains nothing but such a series. Raises :class:`~medcyclegan.errors.WriteError`.
    """
    check_replaceable(folder)
    notes = Notes(_log, folder.name)
    coding = find_coding(volume)
    placed, origin = find_origin(volume, template, notes)
    shared = build_series(placed, origin, coding, notes)
    series_uid = str(shared.SeriesInstanceUID)
    if deidentify:
        check_deidentifiable(shared)
    pseudonym = None if pseudonyms is None else find_pseudonym(pseudonyms, *_patient(shared))
    with atomic_folder(folder, overwrite=True) as temporary, quiet():
        for k in range(placed.shape[2]):
            image = build_image(shared, placed, origin, k, coding.to_stored(placed.array[:, :, k]))
            if deidentify:
                image = deidentify_image(image, pseudonym)
                series_uid = str(image.SeriesInstanceUID)
            image.save_as(temporary / f"{k + 1:04d}.dcm", enforce_file_format=True)
        _check_series(temporary, placed, coding, series_uid)
    if coding.exponent:
        notes.warn(
            f"MR values are stored multiplied by 10^{coding.exponent}: 16-bit whole numbers cannot represent others"
        )


def check_dicom_input(
    volume: Volume,
    _folder: Path,
    *,
    template: Path | None = None,
    deidentify: bool = False,
    pseudonyms: Path | None = None,
) -> None:
    """Refuse, before any work and by the headers alone, an input whose translation could not be written as DICOM.

    ``volume`` has the output's modality and grid; its values do not matter. Raises
    :class:`~medcyclegan.errors.WriteError`.
    """
    silent = Notes(None, "")
    if volume.modality not in ("CT", "MR"):
        find_coding(volume)
    placed, origin = find_origin(volume, template, silent)
    shared = build_series(placed, origin, PixelCoding(signed=True, exponent=0, window=(0.0, 1.0)), silent)
    if deidentify:
        check_deidentifiable(shared)
    if pseudonyms is not None:
        check_key_file(pseudonyms, _patient(shared)[0])


def _patient(shared: Dataset) -> tuple[str, str]:
    """Return PatientID and IssuerOfPatientID of the source."""
    return str(shared.get("PatientID") or ""), str(shared.get("IssuerOfPatientID") or "")


def check_replaceable(folder: Path) -> None:
    """Refuse an existing output unless it is a folder that is empty or contains only a series written here.

    Raises :class:`~medcyclegan.errors.WriteError`.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise WriteError(
            f"{folder} is a file, and a name without an ending means a folder", remedy="name another output"
        )
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise WriteError(f"{folder} cannot be listed: {error.strerror}", remedy="name another output") from error
    for entry in entries:
        found = read_header(entry) if _OUR_NAME.fullmatch(entry.name) and entry.is_file() else None
        if not isinstance(found, DicomFile) or text(found.dataset, "SyntheticData") != "YES":
            raise WriteError(
                f"{folder} holds {entry.name}, which is not an image of a synthetic series",
                remedy=("a folder of other files is never replaced, name another output"),
            )


def _check_series(folder: Path, volume: Volume, coding: PixelCoding, series_uid: str) -> None:
    """Read the temporary series back and compare it with the volume, voxel by voxel."""
    silent = Notes(None, "")
    try:
        series = choose_series(scan_files(walk_files(folder)), None, silent)
        plan = plan_series(series, ReadOptions(max_voxels=max(volume.array.size, 1)), silent)
        frames = rescale_frames(read_frames(plan.frames, silent), plan.frames)
    except VolumeError as error:
        raise WriteError.from_error("read back before it got its name, ", error) from error
    ends = np.array(
        [[i, j, k, 1] for i in (0, volume.shape[0]) for j in (0, volume.shape[1]) for k in (0, frames.shape[0])]
    )
    moved = np.linalg.norm(ends @ (plan.stack.affine - volume.affine)[:3].T, axis=1).max()
    if plan.shape != volume.shape or moved > _SAME_MM or series.uid != series_uid:
        raise WriteError(
            f"read back, the series has the shape {plan.shape} and is off by {moved:.2g} mm",
            remedy=("DICOM cannot store this volume's grid, write NIfTI"),
        )
    differing = sum(
        int(np.count_nonzero(coding.to_stored(volume.array[:, :, k]) != frames[k].T)) for k in range(volume.shape[2])
    )
    if differing:
        raise WriteError(f"read back, {differing} voxels differ", remedy="the disk or memory is faulty, try another")
