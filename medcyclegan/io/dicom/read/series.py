"""Find the series in a set of DICOM files, choose the one to read, and refuse damaged or ambiguous input."""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from medcyclegan.errors import AmbiguousError, GeometryError, ReadError, VolumeError
from medcyclegan.io.dicom.read.enhanced import enhanced_frames, is_multi_frame
from medcyclegan.io.dicom.read.frames import SPLIT_KEYWORDS, Frame, classic_frame, image_from_header
from medcyclegan.io.dicom.read.headers import DamagedFile, DicomFile, OtherFile, list_files, read_header
from medcyclegan.io.dicom.read.mosaic import is_mosaic, mosaic_frames
from medcyclegan.io.dicom.values import text
from medcyclegan.io.notes import Notes

__all__ = [
    "Scan",
    "Series",
    "check_whole_series",
    "choose_series",
    "find_unplaced",
    "group_series",
    "is_aside",
    "matching_uids",
    "refusal_of",
    "scan_files",
    "short_uid",
]

_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
#: Number of characters of a UID in messages, without its last zeros.
_SHORT = 8
_ZEROS = re.compile(r"(\.0)+$")
_ELLIPSES = ("…", "...")
#: The number of series that a refusal lists.
_LISTED = 6


@dataclasses.dataclass(frozen=True)
class Series:
    """The frames that share a SeriesInstanceUID, and the files of the series that cannot be read."""

    uid: str
    frames: tuple[Frame, ...] = ()
    damaged: tuple[DamagedFile, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """Its files, readable or not, in the order in which they were found."""
        return tuple(
            dict.fromkeys([*(frame.image.path for frame in self.frames), *(file.path for file in self.damaged)])
        )


@dataclasses.dataclass(frozen=True)
class Scan:
    """The contents of a set of files: frames, files that are not DICOM images, DICOM files that cannot be read."""

    frames: tuple[Frame, ...]
    others: tuple[OtherFile, ...]
    damaged: tuple[DamagedFile, ...]


def scan_files(
    paths: Iterable[Path],
    split_by: str | None = None,
    *,
    keep_datasets: bool = False,
    on_file: Callable[[Path], None] | None = None,
) -> Scan:
    """Read the header of each file once, without its pixels.

    ``keep_datasets`` keeps whole headers, for a volume that will be read; ``on_file`` is called after each file (a
    progress bar). Never raises for a bad file: it is among ``damaged``, with its reason.
    """
    keywords = SPLIT_KEYWORDS if split_by in (None, *SPLIT_KEYWORDS) else (*SPLIT_KEYWORDS, str(split_by))
    frames: list[Frame] = []
    others: list[OtherFile] = []
    damaged: list[DamagedFile] = []
    for path in paths:
        found = read_header(path)
        if isinstance(found, OtherFile):
            others.append(found)
        elif isinstance(found, DamagedFile):
            damaged.append(found)
        else:
            try:
                frames += _frames_of(found, keywords, keep_datasets=keep_datasets)
            except VolumeError as error:
                series_uid = text(found.dataset, "SeriesInstanceUID")
                is_whole = not isinstance(error, ReadError)
                refusal = ReadError.from_error(f"{path.name}: ", error)
                damaged.append(DamagedFile(path, refusal, series_uid, is_whole=is_whole))
        if on_file is not None:
            on_file(path)
    return Scan(tuple(frames), tuple(others), tuple(damaged))


def group_series(scan: Scan) -> list[Series]:
    """Group a scan by SeriesInstanceUID, in the order in which the series were found.

    Damaged files whose series is uncertain belong to no group: see :func:`find_unplaced`.
    """
    frames: dict[str, list[Frame]] = defaultdict(list)
    damaged: dict[str, list[DamagedFile]] = defaultdict(list)
    for frame in scan.frames:
        frames[frame.image.series_uid].append(frame)
    for file in scan.damaged:
        if file.is_whole or file.series_uid in frames:
            damaged[file.series_uid].append(file)
    uids = dict.fromkeys([*frames, *damaged])
    return [Series(uid, tuple(frames[uid]), tuple(damaged[uid])) for uid in uids]


def find_unplaced(scan: Scan) -> list[DamagedFile]:
    """Return the damaged files that may belong to any series: no image has their series UID, if legible."""
    known = {frame.image.series_uid for frame in scan.frames}
    return [file for file in scan.damaged if not file.is_whole and file.series_uid not in known]


def is_aside(series: Series) -> str:
    """Return why a series is not a volume (a localizer, no position in space); empty if it is one."""
    if not series.frames:
        return "not readable"
    if all(frame.image.is_localizer for frame in series.frames):
        return "a localizer"
    # images of a scanner have a position; without one they are damaged, and may be missing slices
    if not any(frame.position or frame.image.is_scan for frame in series.frames):
        return "without a position in space"
    return ""


def matching_uids(uids: Iterable[str], wanted: str) -> list[str]:
    """Return the UIDs that ``wanted`` names: the UID itself, or all that begin with it, or else all that end with it.

    An ellipsis marks an ending, as in the table of ``inspect``.

    >>> matching_uids(["1.2.3", "1.2.34", "1.5.34"], "1.2.3")
    ['1.2.3']
    >>> matching_uids(["1.2.3", "1.2.34", "1.5.34"], "…5.34")
    ['1.5.34']
    """
    found = list(dict.fromkeys(uid for uid in uids if uid))
    is_ending = wanted.startswith(_ELLIPSES)
    wanted = wanted.lstrip(".…") if is_ending else wanted
    beginning = [] if is_ending else [uid for uid in found if uid.startswith(wanted)]
    if not wanted:
        return []
    return [wanted] if wanted in beginning else beginning or [uid for uid in found if uid.endswith(wanted)]


def short_uid(uid: str) -> str:
    """Return the end of a UID after an ellipsis, for a message; :func:`matching_uids` accepts it.

    Zero components at the end are not counted: all series of some scanners end with them.

    >>> short_uid("1.3.12.2.1107.5.2.43.67060.2022040715044210837860713.0.0.0")
    '…37860713.0.0.0'
    """
    length = _SHORT + len(uid) - len(_ZEROS.sub("", uid))
    return f"…{uid[-length:]}" if len(uid) > length else uid or "(no UID)"


def choose_series(scan: Scan, wanted: str | None, notes: Notes, folder: Path | None = None) -> Series:
    """Return the one series to read: the ``wanted`` UID (see :func:`matching_uids`), or the only one that is a volume.

    ``folder``: the one in which messages name files by their paths.
    Raises :class:`~medcyclegan.errors.AmbiguousError` for several, and
    :class:`~medcyclegan.errors.ReadError` if there is none or if a file may be a missing slice.
    """
    groups = group_series(scan)
    if wanted is not None:
        uids = matching_uids([series.uid for series in groups], wanted)
        chosen = [series for series in groups if series.uid in uids]
        if not chosen and groups:
            raise AmbiguousError(f"no series {wanted} here", remedy=f"choose one with --series: {_listing(groups)}")
        if len(chosen) > 1:
            raise AmbiguousError(
                f"{len(chosen)} series have a UID like {wanted}", remedy=f"name more of it: {_listing(chosen)}"
            )
    else:
        chosen = [series for series in groups if not is_aside(series)] or groups
        if len(chosen) > 1:
            raise AmbiguousError(f"{len(chosen)} series", remedy=f"choose one with --series UID: {_listing(chosen)}")
    unplaced = find_unplaced(scan)
    if not chosen:
        if unplaced:
            raise refusal_of(unplaced, folder)
        raise ReadError(
            f"no DICOM images here ({_counted(scan.others)})", remedy="name the folder that holds the series"
        )
    concerning = [*chosen[0].damaged, *unplaced]
    if concerning:
        raise refusal_of(concerning, folder)
    _note_left_out(scan, [series for series in groups if series.uid != chosen[0].uid], wanted, notes)
    return chosen[0]


def check_whole_series(series: Series, notes: Notes) -> None:
    """Refuse a single slice whose file was named alone if its folder contains more images of the series.

    A file of several slices may be a complete volume: the other files are reported. Raises
    :class:`~medcyclegan.errors.AmbiguousError`, or :class:`~medcyclegan.errors.ReadError` for a file in its folder
    that may be a slice of any series.
    """
    (path,) = series.paths
    instances = {frame.image.instance_uid for frame in series.frames} - {""}
    scan = scan_files(file for file in list_files(path.parent) if file.name != path.name)
    others = {
        frame.image.path
        for frame in scan.frames
        if frame.image.series_uid == series.uid
        and not frame.image.is_localizer
        and frame.image.instance_uid not in instances
    }
    others |= {file.path for file in scan.damaged if file.series_uid == series.uid}
    if not others and len(series.frames) == 1 and (unknown := [f for f in scan.damaged if not f.series_uid]):
        raise refusal_of(unknown)
    if not others:
        return
    if len(series.frames) > 1:
        notes.warn(
            f"{len(others)} other file(s) of the same series in its folder are not read: name the folder for all"
        )
        return
    several = any(other.uid != series.uid and not is_aside(other) for other in group_series(scan))
    folder = f"the folder with --series {series.uid}" if several else "the folder"
    raise AmbiguousError(
        f"{path.name} is one slice of a series of which {len(others)} other file(s) are in its folder",
        remedy=(f"name {folder} to read the volume, or copy the file into an empty folder to read this slice alone"),
    )


def _frames_of(file: DicomFile, keywords: tuple[str, ...], *, keep_datasets: bool) -> list[Frame]:
    """Return the frames of one file.

    Raises :class:`~medcyclegan.errors.ReadError` for a damaged file, another
    :class:`~medcyclegan.errors.VolumeError` for an intact one that is not part of a volume.
    """
    image = image_from_header(file, keep_dataset=keep_datasets)
    if is_multi_frame(file.dataset):
        return enhanced_frames(file.dataset, image, keywords)
    if image.number_of_frames != 1:
        raise GeometryError(
            f"{image.number_of_frames} frames without functional groups, so without a position in space",
            remedy="convert it first, for example with dcm2niix",
        )
    whole = classic_frame(file, image, keywords)
    return mosaic_frames(file.dataset, whole) if is_mosaic(file.dataset) else [whole]


def refusal_of(damaged: list[DamagedFile], folder: Path | None = None) -> ReadError:
    """Return the error for files of which any may be a missing slice; it names a file by its path in ``folder``."""
    path, error = damaged[0].path, damaged[0].error
    if folder is not None and path.is_relative_to(folder):
        above = path.parent.relative_to(folder)
        error = ReadError.from_error(f"{above.as_posix()}/", error) if above.parts else error
    return error if len(damaged) == 1 else ReadError.from_error(f"{len(damaged)} files are refused, the first: ", error)


def _listing(groups: list[Series]) -> str:
    """Name the first few series: UID, modality, number of images, description."""
    named = []
    for series in groups[:_LISTED]:
        image = series.frames[0].image if series.frames else None
        what = "not readable" if image is None else f"{image.modality}, {len(series.frames)} images"
        described = f", {image.description[:40]!r}" if image and image.description else ""
        named.append(f"{series.uid or '(no UID)'} ({what}{described})")
    more = f", and {len(groups) - _LISTED} more" if len(groups) > _LISTED else ""
    return "; ".join(named) + more


def _counted(others: tuple[OtherFile, ...]) -> str:
    reasons: dict[str, int] = defaultdict(int)
    for other in others:
        reasons[other.reason] += 1
    return ", ".join(f"{count} file(s) {reason}" for reason, count in sorted(reasons.items())) or "no files"


def _note_left_out(scan: Scan, beside: list[Series], wanted: str | None, notes: Notes) -> None:
    """Log the files next to the series that are not read."""
    if wanted is None:
        for series in beside:
            count = len(series.frames) or len(series.damaged)
            notes.warn(f"another series is left out: {count} image(s), {is_aside(series)}")
    lost = [other for other in scan.others if not other.is_dicom and other.path.suffix.lower() in _DICOM_SUFFIXES]
    if lost:
        notes.warn(f"{len(lost)} file(s) are named like DICOM but are not DICOM: a slice may be missing")
    if scan.others:
        notes.info(f"left out: {_counted(scan.others)}")
