"""Summarize the series in a folder: the header fields by which a service decides what to do with each."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pydicom import Dataset

from medcyclegan.errors import ReadError
from medcyclegan.io.dicom.read.headers import DicomFile, read_header, walk_files
from medcyclegan.io.dicom.values import integer, text

__all__ = ["SeriesSummary", "count_pixels", "summarize_series"]


@dataclasses.dataclass(frozen=True)
class SeriesSummary:
    """One series: its UID and those of its images, sorted; its files; the fields of its first image.

    ``is_synthetic``: whether SyntheticData is YES in any image.
    """

    uid: str
    instance_uids: tuple[str, ...]
    files: tuple[Path, ...]
    modality: str
    description: str
    study_description: str
    protocol: str
    body_part: str
    is_synthetic: bool


def summarize_series(folder: Path) -> list[SeriesSummary]:
    """Return a summary of each series in ``folder``, in the order of series numbers.

    Files that are not readable as images are left out here; reading a series refuses them.
    """
    series: dict[str, list[DicomFile]] = {}
    for path in walk_files(folder):
        found = read_header(path)
        if isinstance(found, DicomFile):
            series.setdefault(text(found.dataset, "SeriesInstanceUID"), []).append(found)
    summaries = [_summarize(uid, images) for uid, images in series.items()]
    return [summary for _, summary in sorted(summaries, key=lambda pair: (pair[0], pair[1].uid))]


def count_pixels(dataset: Dataset) -> int:
    """Return the number of pixels in all frames of an image; 0 if its header does not state it."""
    try:
        rows, columns, frames = (integer(dataset, name) for name in ("Rows", "Columns", "NumberOfFrames"))
    except ReadError:
        return 0
    return max(rows or 0, 0) * max(columns or 0, 0) * max(frames or 1, 1)


def _summarize(uid: str, images: list[DicomFile]) -> tuple[int, SeriesSummary]:
    """Return the series number and the summary. The first image is the one with the smallest instance UID."""
    images = sorted(images, key=lambda image: text(image.dataset, "SOPInstanceUID"))
    first = images[0].dataset
    number = text(first, "SeriesNumber")[:12]
    return int(number) if number.isdecimal() else 0, SeriesSummary(
        uid=uid,
        instance_uids=tuple(sorted({text(image.dataset, "SOPInstanceUID") for image in images})),
        files=tuple(image.path for image in images),
        modality=text(first, "Modality"),
        description=text(first, "SeriesDescription"),
        study_description=text(first, "StudyDescription"),
        protocol=text(first, "ProtocolName"),
        body_part=text(first, "BodyPartExamined"),
        is_synthetic=any(text(image.dataset, "SyntheticData").upper() == "YES" for image in images),
    )
