"""Which folder holds which DICOM series."""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from pathlib import Path

from medcyclegan.io.dicom.read.series import Scan, Series, group_series, matching_uids

__all__ = ["find_series"]


def find_series(scan: Scan, wanted: str | None) -> list[tuple[Path, Series]]:
    """Return the series of a scan with their folders; with ``wanted`` only those that it names (``matching_uids``)."""
    places = [place for series in group_series(scan) for place in _by_folder(series)]
    if wanted is None:
        return places
    uids = matching_uids([series.uid for _, series in places], wanted)
    return [(folder, series) for folder, series in places if series.uid in uids]


def _by_folder(series: Series) -> list[tuple[Path, Series]]:
    """Return the folder of a series, or each of several folders separately if they hold copies of each other.

    An export may spread a series over folders, and a data set may contain it twice: the instance UIDs decide.
    """
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in series.paths:
        folders[path.parent].append(path)
    if len(folders) == 1:
        return [(next(iter(folders)), series)]
    instances = [{frame.image.instance_uid for frame in series.frames if frame.image.path.parent == f} for f in folders]
    patients = {frame.image.patient_id for frame in series.frames}
    if len(patients) == 1 and len(set().union(*instances)) == sum(map(len, instances)):
        return [(Path(os.path.commonpath(folders)), series)]
    return [(folder, _within(series, folder)) for folder in folders]


def _within(series: Series, folder: Path) -> Series:
    return dataclasses.replace(
        series,
        frames=tuple(frame for frame in series.frames if frame.image.path.parent == folder),
        damaged=tuple(file for file in series.damaged if file.path.parent == folder),
    )
