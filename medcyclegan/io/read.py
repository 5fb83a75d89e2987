"""Read a volume of any supported format."""

from __future__ import annotations

import itertools
import logging
import math
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np

from medcyclegan.errors import GeometryError, IntensityError, ReadError
from medcyclegan.io.dicom.network.remote import fetched
from medcyclegan.io.formats import (
    FORMATS,
    PAIR_ENDINGS,
    SIDECAR_ENDINGS,
    Format,
    ending_of,
    format_of_ending,
    readable_endings,
)
from medcyclegan.io.links import check_exists
from medcyclegan.io.notes import Notes
from medcyclegan.io.options import MAX_VOXELS, ReadOptions
from medcyclegan.io.streams import GZIP_MAGIC, read_start
from medcyclegan.volume import Volume

__all__ = ["find_format", "read_volume", "read_with_options"]

_log = logging.getLogger(__name__)

#: The number of files, sidecars apart, that are checked to find the format of a folder.
_MOST_CHECKED = 200
_SHEAR_LOGGED_DEGREES = 0.01


def read_volume(
    path: str | PathLike[str],
    *,
    series: str | None = None,
    split_by: str | None = None,
    volume: int | None = None,
    resample_tilt: bool = False,
    allow_gap: bool = False,
    allow_gap_mm: float | None = None,
    assume_axes: str | None = None,
    allow_synthetic: bool = True,
    nan: Literal["fill"] | None = None,
    max_voxels: int = MAX_VOXELS,
) -> Volume:
    """Read the volume at ``path``: a folder with one DICOM series, or a NIfTI, ITK or picture file.

    A ``path`` of the form ``https://host/dicom-web/studies/UID/series/UID`` is fetched from that DICOMweb service.

    ``.array`` is ``(I, J, K)``, stored value x slope + intercept and nothing else; ``.affine`` takes
    voxel indices to RAS+ mm. The options are those of :class:`~medcyclegan.io.options.ReadOptions`.
    ``series``, ``split_by``, ``resample_tilt``, ``allow_gap`` and ``allow_gap_mm`` concern DICOM series: with another
    format a ``series`` is refused (there is no UID to match), a ``resample_tilt`` is refused if
    the affine is sheared, and the others, which only permit something, are logged.

    A volume that is marked as synthetic has ``.synthetic`` set; with ``allow_synthetic=False`` it is refused.
    With ``nan="fill"`` voxels that are not finite take the smallest finite value of the volume; their
    number is logged and kept in ``.notes``. Without it such voxels are refused.

    Raises a subclass of :class:`~medcyclegan.errors.VolumeError`, one line with the remedy.
    """
    options = ReadOptions(
        series=series,
        split_by=split_by,
        volume=volume,
        resample_tilt=resample_tilt,
        allow_gap=allow_gap,
        allow_gap_mm=allow_gap_mm,
        assume_axes=assume_axes,
        allow_synthetic=allow_synthetic,
        nan=nan,
        max_voxels=max_voxels,
    )
    with fetched(path) as local:
        return read_with_options(local, options)


def read_with_options(path: Path, options: ReadOptions) -> Volume:
    """Read the volume at ``path`` like :func:`read_volume`, with the options in one object."""
    kind = find_format(path)
    if kind != "dicom" and options.series is not None:
        raise ReadError(
            f"{path}: --series {options.series}: the file is not a DICOM series", remedy="leave the option out"
        )
    found = FORMATS[kind].read(path, options)
    if kind != "dicom":
        found = _note_options(path, found, options)
    return _settle_nan(path, found, options.nan)


def find_format(path: Path) -> Format:
    """Return the format of ``path``, by its ending, else by its first bytes.

    Raises :class:`~medcyclegan.errors.ReadError` if nothing exists there or the format is unknown.
    """
    if path.is_dir():
        return _folder_format(path)
    check_exists(path)
    if not path.is_file():
        raise ReadError(f"{path}: neither a file nor a folder (a pipe or a device)", remedy="save the volume as a file")
    ending = ending_of(path)
    if ending in PAIR_ENDINGS:
        raise ReadError(
            f"{path}: a file of a .hdr/.img pair",
            remedy="only single files with header and voxels are read, convert the pair to .nii.gz",
        )
    return format_of_ending(ending) or _sniff(path)


def _sniff(path: Path) -> Format:
    start = read_start(path, 352)
    if start[128:132] == b"DICM":
        return "dicom"
    if start[:2] == GZIP_MAGIC or start[344:348] in (b"n+1\0", b"ni1\0") or start[4:8] in (b"n+2\0", b"ni2\0"):
        return "nifti"
    if start.startswith((b"\x89PNG", b"\xff\xd8\xff")):
        return "image"
    raise ReadError(
        f"{path}: neither its name nor its content is of a known format",
        remedy=f"{readable_endings()} are read, convert it first",
    )


def _folder_format(folder: Path) -> Format:
    """Return ``dicom``, unless the folder contains only files of other formats."""
    from medcyclegan.io.dicom.read.headers import walk_files

    endings = {ending_of(path) for path in itertools.islice(walk_files(folder), _MOST_CHECKED)}
    if not endings:
        raise ReadError(f"{folder}: a folder without files", remedy="name a file, or a folder with one DICOM series")
    kinds = {format_of_ending(ending) or "dicom" for ending in endings - SIDECAR_ENDINGS}
    if kinds and "dicom" not in kinds:
        held = ", ".join(sorted(endings - SIDECAR_ENDINGS))
        raise ReadError(f"{folder}: a folder of {held} files and no DICOM", remedy="name the file with the volume")
    return "dicom"


def _note_options(path: Path, found: Volume, options: ReadOptions) -> Volume:
    """Log the effect of DICOM options on another format, and a shear."""
    notes = Notes(_log, path.name)
    if found.shear_degrees > _SHEAR_LOGGED_DEGREES:
        if options.resample_tilt:
            raise GeometryError(
                f"{path}: its affine is sheared by {found.shear_degrees:.3g} degrees, and --resample-tilt works on "
                "DICOM series only",
                remedy="read the series itself, or leave the option out to keep the shear",
            )
        notes.warn(f"a sheared affine ({found.shear_degrees:.3g} degrees, as of a tilted gantry), kept exactly")
    permitted = {"--split-by": options.split_by, "--allow-gap": options.allow_gap}
    for name, given in {**permitted, "--allow-gap-mm": options.allow_gap_mm}.items():
        if given:
            notes.info(f"{name} concerns DICOM series: nothing to do here")
    return found.replace(notes=found.notes + notes.sentences)


def _settle_nan(path: Path, found: Volume, nan: Literal["fill"] | None) -> Volume:
    """Refuse or replace voxels that are not finite; slice by slice, to use little memory."""
    array = found.array
    if array.dtype.kind != "f":
        return found
    bad, smallest = 0, math.inf
    for k in range(array.shape[2]):
        finite = np.isfinite(array[..., k])
        bad += finite.size - int(np.count_nonzero(finite))
        smallest = min(smallest, float(array[..., k].min(where=finite, initial=math.inf)))
    if not bad:
        return found
    share = f"{bad} of {array.size} voxels are not finite (NaN or infinite)"
    if bad == array.size:
        raise IntensityError(f"{path}: {share}", remedy="nothing is left to read, export the volume again")
    if nan is None:
        raise IntensityError(
            f"{path}: {share}", remedy="repair them, or pass --nan fill to give them the smallest finite value"
        )
    filled = array if array.flags.writeable else array.copy()
    for k in range(array.shape[2]):
        np.copyto(filled[..., k], smallest, where=~np.isfinite(filled[..., k]))
    notes = Notes(_log, path.name)
    notes.warn(f"{share}: they were replaced by the smallest finite value, {smallest:g}")
    return found.replace(array=filled, notes=found.notes + notes.sentences)
