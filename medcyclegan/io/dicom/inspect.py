"""Inspect DICOM series: what they contain, and whether they can be read."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.uid import UID

from medcyclegan.errors import AmbiguousError, GeometryError, MedCycleGANError, ReadError, one_line
from medcyclegan.io.dicom.read.folders import find_series
from medcyclegan.io.dicom.read.headers import DamagedFile
from medcyclegan.io.dicom.read.plan import SeriesPlan, plan_series
from medcyclegan.io.dicom.read.series import (
    Series,
    check_whole_series,
    find_unplaced,
    is_aside,
    matching_uids,
    refusal_of,
    scan_files,
)
from medcyclegan.io.inspected import InspectedVolume, geometry_fields, refused_row, with_synthetic
from medcyclegan.io.notes import Notes
from medcyclegan.io.options import ReadOptions, option_texts
from medcyclegan.io.synthetic import why_synthetic

__all__ = ["inspect_dicom"]


def inspect_dicom(
    files: Sequence[Path],
    options: ReadOptions,
    on_file: Callable[[Path], None],
    *,
    named: Collection[Path] = (),
) -> tuple[list[InspectedVolume], Counter[str]]:
    """Return a row for each series among ``files``, and the number of files that are not images, by reason.

    A localizer is left out unless ``options.series`` names it. ``on_file`` is called after each file. ``named``: the
    files that the user named directly, not by their folder.
    """
    scan = scan_files(files, options.split_by, on_file=on_file)
    unplaced = find_unplaced(scan)
    places = find_series(scan, None)
    wanted = set() if options.series is None else set(matching_uids([s.uid for _, s in places], options.series))
    volumes = {folder for folder, series in places if not is_aside(series)}
    rows = []
    claimed: set[Path] = set()
    for folder, series in places:
        lost = [file for file in unplaced if file.path.is_relative_to(folder)]
        claimed |= {file.path for file in lost}
        is_beside = folder in volumes and series.uid not in wanted
        row = _inspect_series(folder, series, lost, options, is_beside=is_beside)
        alone = len(series.paths) == 1 and series.paths[0] in named
        rows.append(_with_siblings(row, series) if alone and row.verdict in ("ok", "ok with options") else row)
    rows += [_damaged_row(file) for file in unplaced if file.path not in claimed]
    return rows, Counter(other.reason for other in scan.others)


def _with_siblings(row: InspectedVolume, series: Series) -> InspectedVolume:
    """Return the row of a file that was named alone, after a check of the other files of its series."""
    notes = Notes(None, row.path)
    try:
        check_whole_series(series, notes)
    except (AmbiguousError, ReadError) as error:
        return refused_row(row, error)
    return dataclasses.replace(row, notes=(*notes.sentences, *row.notes))


def _damaged_row(file: DamagedFile) -> InspectedVolume:
    return refused_row(InspectedVolume(file.path.as_posix(), "dicom", "refused"), file.error)


def _inspect_series(
    folder: Path, series: Series, lost: list[DamagedFile], options: ReadOptions, *, is_beside: bool
) -> InspectedVolume:
    """Return the row of one series; ``lost`` are damaged files in its folder, which may be its slices."""
    path = (series.paths[0] if len(series.paths) == 1 else folder).as_posix()
    files = tuple(path.as_posix() for path in series.paths)
    row = InspectedVolume(path, "dicom", "refused", files=len(files), file_paths=files, **_described(series))
    if series.damaged or lost:
        return refused_row(row, refusal_of([*series.damaged, *lost], folder))
    aside = is_aside(series)
    if aside and is_beside:
        remedy = f"read only when named with --series {series.uid}"
        reason = f"{aside}, next to another series: {remedy}"
        return dataclasses.replace(row, verdict="left out", reason=reason, remedy=remedy)
    return _with_plan(row, folder, series, options)


def _with_plan(row: InspectedVolume, folder: Path, series: Series, options: ReadOptions) -> InspectedVolume:
    """Return the row with what would be read, as asked or with the options that the refusals name."""
    tried, needed = options, dict[str, object]()
    refusal: MedCycleGANError | None = None
    while True:
        notes = Notes(None, row.path)
        try:
            plan = plan_series(series, tried, notes)
        except (AmbiguousError, GeometryError) as error:
            refusal = refusal or error
            more = _new_options(error, needed, series, options)
            if not more:
                return refused_row(row, refusal)
            needed |= more
            tried = dataclasses.replace(tried, **more)
        except MedCycleGANError as error:
            return refused_row(row, refusal or error)
        else:
            break
    row = dataclasses.replace(
        row,
        verdict="ok with options" if needed else "ok",
        options=option_texts(needed),
        reason=str(refusal) if refusal else "",
        remedy=refusal.remedy if refusal else "",
        notes=notes.sentences,
        **_planned(plan),
    )
    return with_synthetic(row, why_synthetic(folder, "SyntheticData" if plan.is_synthetic else ""), options)


def _new_options(
    error: MedCycleGANError, needed: Mapping[str, object], series: Series, options: ReadOptions
) -> dict[str, Any]:
    """Return the options that a refusal suggests and that were not tried; nothing if they cannot help."""
    more: dict[str, Any] = {name: value for name, value in error.options.items() if name not in needed}
    keyword = more.get("split_by")
    known = any(keyword in frame.attributes for frame in series.frames)
    if keyword and (options.split_by is not None or not known):
        return {}
    if "volume" in more and options.volume is not None:
        more["volume"] = options.volume
    return more


def _described(series: Series) -> dict[str, Any]:
    """Return the fields that the first image of a series has in common with all."""
    if not series.frames:
        return {"series_uid": series.uid or None}
    first = series.frames[0]
    syntaxes = sorted({UID(frame.image.transfer_syntax).name for frame in series.frames})
    return {
        "series_uid": series.uid or None,
        "series_number": first.image.series_number or None,
        "description": one_line(first.image.description) or None,
        "modality": first.image.modality or None,
        "patient": min({frame.image.patient_id for frame in series.frames} - {""}, default=None),
        "columns": first.columns,
        "rows": first.rows,
        "slices": len(series.frames),
        "transfer_syntax": ", ".join(syntaxes),
    }


def _planned(plan: SeriesPlan) -> dict[str, Any]:
    """Return the geometry of the volume that would be read; the slices as stored, before any resampling."""
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
