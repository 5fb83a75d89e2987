"""Which folder holds which DICOM series."""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from collections.abc import Collection
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
    """Return the series and its folder; if folders hold copies of each other, each complete copy and the rest.

    An export may spread a series over folders, and a data set may contain it twice: the instance UIDs decide. A folder
    with all images is a complete copy. Without one, the images of all folders are one series, even if some of them are
    in several folders: the images of one folder would be a volume with missing slices.
    """
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in series.paths:
        folders[path.parent].append(path)
    if len(folders) == 1:
        return [(next(iter(folders)), series)]
    instances: dict[Path, set[str]] = defaultdict(set)
    for frame in series.frames:
        instances[frame.image.path.parent].add(frame.image.instance_uid)
    every = set[str]().union(*instances.values())
    if len({frame.image.patient_id for frame in series.frames}) > 1 or "" in every:
        return [(folder, _within(series, [folder])) for folder in folders]
    complete = [folder for folder in folders if instances[folder] == every]
    rest = [folder for folder in folders if folder not in complete]
    places = [(folder, _within(series, [folder])) for folder in complete]
    return places + ([(Path(os.path.commonpath(rest)), _within(series, rest))] if rest else [])


def _within(series: Series, folders: Collection[Path]) -> Series:
    """Return the part of a series in ``folders``."""
    folders = set(folders)
    return dataclasses.replace(
        series,
        frames=tuple(frame for frame in series.frames if frame.image.path.parent in folders),
        damaged=tuple(file for file in series.damaged if file.path.parent in folders),
    )
