"""The rows of an inspection that are DICOM series: what they are, and what reading them would give."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.uid import UID

from medcyclegan.errors import AmbiguousError, GeometryError, MedCycleGANError, ReadError, one_line
from medcyclegan.io.dicom.read.headers import DamagedFile
from medcyclegan.io.dicom.read.plan import SeriesPlan, plan_series
from medcyclegan.io.dicom.read.series import (
    Series,
    check_whole_series,
    find_unplaced,
    group_series,
    is_aside,
    refusal_of,
    scan_files,
)
from medcyclegan.io.discover import by_folder
from medcyclegan.io.inspect import InspectedVolume, Verdict, geometry_fields, with_synthetic
from medcyclegan.io.notes import Notes
from medcyclegan.io.options import ReadOptions
from medcyclegan.io.synthetic import why_synthetic

__all__ = ["inspect_dicom"]

#: A patient is shorter.
_ANY_GAP_MM = 1e4


def inspect_dicom(
    files: Sequence[Path],
    options: ReadOptions,
    said: Callable[[Path], None],
    *,
    named: Collection[Path] = (),
) -> tuple[list[InspectedVolume], Counter[str]]:
    """Return a row for each series among ``files``, and how many of them are no images; ``said`` after each file.

    ``named``: the files that the user named themselves, rather than their folder.
    """
    scan = scan_files(files, options.split_by, said=said)
    unplaced = find_unplaced(scan)
    places = [(folder, series) for series in group_series(scan) for folder, series in by_folder(series)]
    if options.series is not None:
        places = [(folder, series) for folder, series in places if series.uid == options.series]
    volumes = {folder for folder, series in places if not is_aside(series)}
    rows = []
    claimed: set[Path] = set()
    for folder, series in places:
        lost = [file for file in unplaced if file.path.is_relative_to(folder)]
        claimed |= {file.path for file in lost}
        row = _inspect_series(folder, series, lost, options, is_beside=folder in volumes)
        alone = len(series.paths) == 1 and series.paths[0] in named
        rows.append(_with_siblings(row, series) if alone and row.verdict.startswith("ok") else row)
    rows += [_damaged_row(file) for file in unplaced if file.path not in claimed]
    return rows, Counter(other.reason for other in scan.others)


def _with_siblings(row: InspectedVolume, series: Series) -> InspectedVolume:
    """Return the row of a file that was named alone, with what its siblings mean for reading it."""
    notes = Notes(None, row.path)
    try:
        check_whole_series(series, notes)
    except (AmbiguousError, ReadError) as error:
        return dataclasses.replace(row, verdict="refused", options=(), reason=str(error))
    return dataclasses.replace(row, notes=(*notes.sentences, *row.notes))


def _damaged_row(file: DamagedFile) -> InspectedVolume:
    return InspectedVolume(file.path.as_posix(), "dicom", "refused", reason=file.reason)


def _inspect_series(
    folder: Path, series: Series, lost: list[DamagedFile], options: ReadOptions, *, is_beside: bool
) -> InspectedVolume:
    """Return the row of one series; ``lost`` are damaged files near it, which may be slices of it."""
    path = (series.paths[0] if len(series.paths) == 1 else folder).as_posix()
    row = InspectedVolume(path, "dicom", "refused", files=len(series.paths), **_described(series))
    if series.damaged or lost:
        return dataclasses.replace(row, reason=refusal_of([*series.damaged, *lost]))
    aside = is_aside(series)
    if aside and is_beside:
        reason = f"{aside}, beside another series: read only when named with --series {series.uid}"
        return dataclasses.replace(row, verdict="left out", reason=reason)
    refused = ""
    for tried, needed in _attempts(series, options):
        notes = Notes(None, path)
        try:
            plan = plan_series(series, tried, notes)
        except (AmbiguousError, GeometryError) as error:
            refused = refused or str(error)
        except MedCycleGANError as error:
            return dataclasses.replace(row, reason=refused or str(error))
        else:
            verdict: Verdict = "ok with options" if needed else "ok"
            row = dataclasses.replace(
                row, verdict=verdict, options=needed, reason=refused, notes=notes.sentences, **_planned(plan)
            )
            return with_synthetic(row, why_synthetic(folder, "SyntheticData" if plan.is_synthetic else ""), options)
    return dataclasses.replace(row, reason=refused)


def _attempts(series: Series, options: ReadOptions) -> Iterator[tuple[ReadOptions, tuple[str, ...]]]:
    """Yield the options as given, then with what a refusal may advise, and how that is written."""
    yield options, ()
    first_volume = dataclasses.replace(options, volume=options.volume or 0)
    if options.volume is None:
        yield first_volume, ("--volume N",)
    for base, needed in ((options, ()), (first_volume, ("--volume N",))):
        yield dataclasses.replace(base, allow_gap=True), (*needed, "--allow-gap")
        yield dataclasses.replace(base, allow_gap_mm=_ANY_GAP_MM), (*needed, "--allow-gap-mm N")
    if options.split_by is None and (keyword := _advised_split(series, options)):
        yield dataclasses.replace(first_volume, split_by=keyword), (f"--split-by {keyword}", "--volume N")


def _advised_split(series: Series, options: ReadOptions) -> str:
    """Return the keyword that the refusal without options names, if the headers at hand hold it."""
    try:
        plan_series(series, options, Notes(None, ""))
    except AmbiguousError as error:
        found = re.search(r"--split-by (\w+) and --volume", str(error))
        if found and any(found[1] in frame.attributes for frame in series.frames):
            return found[1]
    except MedCycleGANError:
        pass
    return ""


def _described(series: Series) -> dict[str, Any]:
    """Return what a series' first image says of all."""
    if not series.frames:
        return {"series_uid": series.uid or None}
    first = series.frames[0]
    syntaxes = sorted({UID(frame.image.transfer_syntax).name for frame in series.frames})
    return {
        "series_uid": series.uid or None,
        "series_number": first.image.series_number or None,
        "description": one_line(first.image.description) or None,
        "modality": first.image.modality or None,
        "columns": first.columns,
        "rows": first.rows,
        "slices": len(series.frames),
        "transfer_syntax": ", ".join(syntaxes),
    }


def _planned(plan: SeriesPlan) -> dict[str, Any]:
    """Return the geometry of what would be read; the slices as stored, before any resampling."""
    columns, rows, slices = plan.shape
    gaps = np.diff(plan.stack.distances_mm)
    return {
        "columns": columns,
        "rows": rows,
        "slices": slices,
        "volumes": plan.volumes,
        "gap_mm": (round(float(gaps.min()), 4), round(float(gaps.max()), 4)) if slices > 1 else None,
        **geometry_fields(plan.stack.affine),
    }
