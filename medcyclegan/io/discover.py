"""Find the volumes in a tree of files: each one once, in a fixed order."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from medcyclegan.errors import AmbiguousError, ReadError, one_line
from medcyclegan.io.formats import Format, format_of_name
from medcyclegan.io.links import broken_link, check_exists, is_broken_link
from medcyclegan.io.options import ReadOptions
from medcyclegan.io.read import find_format, read_with_options
from medcyclegan.volume import Volume

if TYPE_CHECKING:
    from medcyclegan.io.dicom.read.headers import DamagedFile
    from medcyclegan.io.dicom.read.series import Series

__all__ = [
    "FoundVolume",
    "find_volumes",
    "kind_of_file",
    "read_found_volume",
    "pair_refusal",
    "volume_name",
]

_log = logging.getLogger(__name__)


def pair_refusal(name: str) -> ReadError:
    """Return the refusal of a .hdr/.img pair; the message begins with ``name``."""
    return ReadError(
        f"{name}: a .hdr/.img pair",
        remedy="only single files with header and voxels are read, convert the pair to .nii.gz",
    )


@dataclasses.dataclass(frozen=True)
class FoundVolume:
    """A volume in a tree: its path, its name, and how to read it.

    ``path``
        Its file, or the folder of its DICOM series.
    ``kind``
        ``"nifti"``, ``"dicom"``, ``"image"`` (PNG, JPEG) or ``"itk"`` (.mha, .mhd, .nrrd).
    ``name``
        Its path below the searched folder, with ``/``, without suffix; a DICOM series has the name of its
        folder, with ``#2`` for the second of several.
    ``relative_path``
        The path below the searched folder, unchanged.
    ``series_uid``, ``patient``, ``modality``
        SeriesInstanceUID, PatientID and Modality, for DICOM; else None.
    ``refused``
        Why it cannot be read, if the headers show it; else None.
    ``files``
        The files of a DICOM series; else the one file.
    """

    path: Path
    kind: str
    name: str
    relative_path: Path
    series_uid: str | None = None
    patient: str | None = None
    refused: str | None = None
    files: tuple[Path, ...] = ()
    modality: str | None = None

    @property
    def base(self) -> Path:
        """The searched folder; if one file was named, its folder."""
        depth = len(self.relative_path.parts)
        return self.path.parents[depth - 1] if depth else self.path


def find_volumes(root: Path | Sequence[Path], options: ReadOptions) -> list[FoundVolume]:
    """Return the volumes under ``root``, or of the file ``root``, sorted by name.

    Several folders and files are searched together, so a series may be spread over them; names are then relative to
    their common folder. Symbolic links are followed, and broken ones are refused volumes, or reported; dotfiles,
    temporary names, sidecars and other files are skipped. Each DICOM header is read once. A file that cannot be read
    does not raise: see :attr:`FoundVolume.refused`. Raises :class:`~medcyclegan.errors.ReadError` if ``root`` is
    missing or a folder cannot be listed.
    """
    from medcyclegan.io.dicom.read.headers import walk_files

    roots = _rooted([root] if isinstance(root, Path) else root)
    for each in roots:
        check_exists(each)
    base = roots[0] if len(roots) == 1 and roots[0].is_dir() else _common_folder(roots)
    files: dict[Path, None] = {}
    for each in roots:
        files |= dict.fromkeys(walk_files(each) if each.is_dir() else [each])
    found: list[FoundVolume] = []
    dicom: list[Path] = []
    for path in files:
        kind = kind_of_file(path)
        if kind is None and is_broken_link(path):
            _log.warning("%s", broken_link(path))
        if kind == "dicom":
            dicom.append(path)
        elif kind is not None:
            relative = path.relative_to(base)
            refused = None
            if kind == "pair":
                kind, refused = "nifti", str(pair_refusal(path.name))
            elif is_broken_link(path):
                refused = str(broken_link(path.name))
            found.append(FoundVolume(path, kind, volume_name(relative), relative, refused=refused, files=(path,)))
    found += _find_series(base, dicom, options, named=frozenset(each for each in roots if not each.is_dir()))
    return sorted(found, key=lambda volume: (volume.name, volume.relative_path.as_posix()))


def read_found_volume(found: FoundVolume, options: ReadOptions) -> Volume:
    """Read a found volume; a DICOM series from its own files, without reading the other files again.

    Raises as :func:`~medcyclegan.io.read.read_volume` does.
    """
    if found.refused is not None:
        raise ReadError(found.refused)
    if found.kind == "dicom":
        from medcyclegan.io.dicom.read.volume import read_dicom_files

        return read_dicom_files(found.files, dataclasses.replace(options, series=found.series_uid), str(found.path))
    return read_with_options(found.path, options)


def kind_of_file(path: Path) -> Format | Literal["pair"] | None:
    """Return the format of a file, ``pair`` for the header of a .hdr/.img pair, None for other files.

    A broken link has the format of its name; one without an ending may be a slice, like other files without one.
    """
    from medcyclegan.io.dicom.read.headers import is_dicom

    if is_broken_link(path):
        return format_of_name(path)
    try:
        return find_format(path)
    except ReadError:
        if is_dicom(path):
            return "dicom"
        return "pair" if path.name.lower().endswith((".hdr", ".hdr.gz")) else None


def volume_name(relative: Path) -> str:
    """Return the name of a file's volume: its relative path with ``/``, without suffix (both parts of ``.nii.gz``)."""
    name = relative.name
    if name.lower().endswith(".gz"):
        name = name[:-3]
    return (relative.parent / (Path(name).stem or name)).as_posix()


def _rooted(roots: Sequence[Path]) -> list[Path]:
    """Return the paths so that each can be expressed relative to their common folder."""
    mixed = len({path.is_absolute() for path in roots}) > 1 or any(".." in path.parts for path in roots)
    return [Path(os.path.abspath(path)) for path in roots] if len(roots) > 1 and mixed else list(roots)


def _common_folder(roots: Sequence[Path]) -> Path:
    return Path(os.path.commonpath([path.parent for path in roots]))


def _find_series(base: Path, files: list[Path], options: ReadOptions, *, named: frozenset[Path]) -> list[FoundVolume]:
    """Return the DICOM series among ``files``; localizers and images without a position are left out and reported.

    ``named``: files that the user named, rather than their folder.
    """
    if not files:
        return []
    from medcyclegan.io.dicom.read.folders import find_series
    from medcyclegan.io.dicom.read.series import find_unplaced, is_aside, scan_files, short_uid

    scan = scan_files(files, options.split_by)
    places = find_series(scan, options.series)
    volumes = {folder for folder, series in places if not is_aside(series)}
    kept: dict[Path, list[Series]] = defaultdict(list)
    for folder, series in places:
        aside = is_aside(series)
        if (volumes and aside == "a localizer") or (folder in volumes and aside):
            _log.warning(
                "%s, series %s: %d image(s) are left out: %s",
                one_line(folder), short_uid(series.uid), len(series.paths), aside,
            )  # fmt: skip
        else:
            kept[folder].append(series)
    unplaced = find_unplaced(scan)
    found = []
    for folder, beside in kept.items():
        lost = [file for file in unplaced if file.path.is_relative_to(folder)]
        found += _found_in(base, folder, beside, lost)
    alone = {series.paths: series for _, series in places if len(series.paths) == 1 and series.paths[0] in named}
    for n, volume in enumerate(found):
        if volume.refused is None and volume.files in alone:
            found[n] = dataclasses.replace(volume, refused=_reason_not_whole(alone[volume.files]))
    claimed = {path for volume in found for path in volume.files}
    return found + [_found_damaged(base, file) for file in unplaced if file.path not in claimed]


def _reason_not_whole(series: Series) -> str | None:
    """Return why a file that was named alone is not read; None if it is read."""
    from medcyclegan.io.dicom.read.series import check_whole_series
    from medcyclegan.io.notes import Notes

    try:
        check_whole_series(series, Notes(_log, series.paths[0].name))
    except (AmbiguousError, ReadError) as error:
        return str(error)
    return None


def _found_in(base: Path, folder: Path, beside: list[Series], lost: list[DamagedFile]) -> list[FoundVolume]:
    """Return the series of one folder as volumes; ``lost`` are damaged files that may belong to any of them."""
    relative = folder.relative_to(base)
    name = folder.name if relative == Path() else relative.as_posix()
    from medcyclegan.io.dicom.read.series import refusal_of

    found = []
    ordered = sorted(beside, key=lambda series: (_series_order(series), series.uid))
    for number, series in enumerate(ordered, start=1):
        damaged = [*series.damaged, *lost]
        patients = {frame.image.patient_id for frame in series.frames} - {""}
        found.append(
            FoundVolume(
                path=folder,
                kind="dicom",
                name=name if len(ordered) == 1 else f"{name}#{number}",
                relative_path=relative,
                series_uid=series.uid,
                patient=min(patients) if patients else None,
                refused=str(refusal_of(damaged, folder)) if damaged else None,
                files=(*series.paths, *(file.path for file in lost)),
                modality=series.frames[0].image.modality or None if series.frames else None,
            )
        )
    return found


def _series_order(series: Series) -> tuple[int, str]:
    """Return the sort key of a series: the number that the scanner gave it."""
    number = series.frames[0].image.series_number if series.frames else ""
    return (int(number) if number.isdecimal() else 0, number)


def _found_damaged(base: Path, file: DamagedFile) -> FoundVolume:
    relative = file.path.relative_to(base)
    return FoundVolume(file.path, "dicom", volume_name(relative), relative, refused=file.reason, files=(file.path,))
