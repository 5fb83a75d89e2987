"""List the volumes of a tree from headers alone: a row per series or file, with the verdict of reading it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medcyclegan.errors import AmbiguousError, GeometryError, MedCycleGANError, ReadError
from medcyclegan.io.dicom.network.remote import fetched, list_series
from medcyclegan.io.dicom.network.web_address import WebAddress, is_dicomweb
from medcyclegan.io.discover import kind_of_file, pair_refusal
from medcyclegan.io.formats import FORMATS, Format
from medcyclegan.io.inspected import InspectedVolume, geometry_fields, refused_row, with_synthetic
from medcyclegan.io.links import broken_link, check_exists, is_broken_link
from medcyclegan.io.options import ReadOptions, option_texts
from medcyclegan.progress import progress_bar

__all__ = ["Inspection", "inspect_all", "inspect_paths"]


@dataclasses.dataclass(frozen=True)
class Inspection:
    """The volumes of a tree, sorted by path, and the number of other files by reason."""

    volumes: tuple[InspectedVolume, ...]
    others: dict[str, int]


def inspect_all(places: Sequence[str | Path], options: ReadOptions) -> Inspection:
    """Inspect paths like :func:`inspect_paths`, and addresses of DICOMweb services.

    Of a service or a study, the series are listed; a series is fetched and inspected.
    """
    rows: list[InspectedVolume] = []
    others: Counter[str] = Counter()
    paths = [Path(place) for place in places if not is_dicomweb(place)]
    if paths:
        found = inspect_paths(paths, options)
        rows, others = list(found.volumes), Counter(found.others)
    for place in places:
        if not is_dicomweb(place):
            continue
        address = WebAddress.parse(str(place))
        if address.level != "series":
            rows += list_series(str(place))
            continue
        with fetched(place) as folder:
            series = inspect_paths([folder], options)
        rows += [_with_address(row, folder, str(address)) for row in series.volumes]
        others += series.others
    return Inspection(tuple(rows), dict(sorted(others.items())))


def _with_address(row: InspectedVolume, folder: Path, address: str) -> InspectedVolume:
    """Return a row with the address of the series in place of the folder into which it was fetched."""
    texts = {name: getattr(row, name).replace(folder.as_posix(), address) for name in ("path", "reason", "remedy")}
    notes = tuple(note.replace(folder.as_posix(), address) for note in row.notes)
    return dataclasses.replace(row, notes=notes, **texts)


def inspect_paths(paths: Sequence[Path], options: ReadOptions) -> Inspection:
    """Inspect every file below ``paths``, reading headers only.

    Raises :class:`~medcyclegan.errors.ReadError` if a path is missing or a folder cannot be listed; an error
    about a file is in its row.
    """
    from medcyclegan.io.dicom.read.headers import walk_files

    files: dict[Path, None] = {}
    for path in paths:
        check_exists(path)
        files |= dict.fromkeys(walk_files(path) if path.is_dir() else [path])
    rows: list[InspectedVolume] = []
    others: Counter[str] = Counter()
    dicom: list[Path] = []
    with progress_bar("inspecting", len(files)) as bar:
        for file in files:
            kind = kind_of_file(file)
            if kind == "dicom":
                dicom.append(file)
                continue
            bar.advance()
            if kind is None:
                what = "broken symbolic link" if is_broken_link(file) else "no volume"
                others[f"{what} ({file.suffix.lower() or 'no suffix'})"] += 1
            elif kind == "pair":
                rows.append(_refused_file(file, "nifti", pair_refusal(file.name)))
            elif is_broken_link(file):
                rows.append(_refused_file(file, kind, broken_link(file.name)))
            else:
                rows.append(_inspect_file(file, kind, options))
        if dicom:
            from medcyclegan.io.dicom.inspect import inspect_dicom

            named = frozenset(path for path in paths if not path.is_dir())
            found, beside = inspect_dicom(dicom, options, lambda _path: bar.advance(), named=named)
            rows += found
            others += beside
    return Inspection(tuple(sorted(rows, key=_order)), dict(sorted(others.items())))


def _order(row: InspectedVolume) -> tuple[Any, ...]:
    number = row.series_number or ""
    return (row.path, int(number) if number.isdecimal() else 0, number, row.series_uid or "")


def _refused_file(path: Path, kind: str, error: ReadError) -> InspectedVolume:
    return refused_row(InspectedVolume(path.as_posix(), kind, "refused"), error)


def _inspect_file(path: Path, kind: Format, options: ReadOptions) -> InspectedVolume:
    """Return the row of a file from its header; retry with the options that the refusal names."""
    row = InspectedVolume(path.as_posix(), kind, "ok")
    needed: dict[str, Any] = {}
    refusal: MedCycleGANError | None = None
    try:
        try:
            header = FORMATS[kind].read_header(path, options)
        except GeometryError as error:
            if not error.options:
                raise
            refusal, needed = error, dict(error.options)
            header = FORMATS[kind].read_header(path, dataclasses.replace(options, **error.options))
    except MedCycleGANError as error:
        return refused_row(row, refusal or error)
    except OSError as error:
        return refused_row(row, ReadError(f"{path.as_posix()}: {error.strerror or error}", remedy="check the file"))
    reasons = [str(refusal)] if refusal else []
    if header.volumes > 1 and options.volume is None:
        refusal = AmbiguousError(
            f"{path.as_posix()}: a 4-D file of {header.volumes} volumes",
            remedy=f"choose one with --volume N, 0 to {header.volumes - 1}",
        )
        reasons.append(str(refusal))
        needed["volume"] = 0
    columns, rows, slices = (*header.shape, 1, 1)[:3]
    row = dataclasses.replace(
        row,
        verdict="ok with options" if needed else "ok",
        options=option_texts(needed),
        reason="; ".join(reasons),
        remedy=refusal.remedy if refusal else "",
        notes=header.notes,
        modality=header.modality,
        columns=columns,
        rows=rows,
        slices=slices,
        volumes=header.volumes,
        **geometry_fields(header.affine),
    )
    return with_synthetic(row, header.why_synthetic, options)
