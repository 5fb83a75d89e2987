"""A folder of series, sorted by patient, from the series of an unsorted export: links to its files, or copies."""

from __future__ import annotations

import csv
import dataclasses
import filecmp
import hashlib
import io
import logging
import os
import shutil
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from medcyclegan.errors import AmbiguousError, ReadError, UsageError, WriteError, one_line
from medcyclegan.io.inspected import InspectedVolume
from medcyclegan.progress import progress_bar
from medcyclegan.storage import atomic_folder, atomic_write, check_output, check_space

__all__ = ["SortedSeries", "check_tree", "sort_series", "table_path"]

log = logging.getLogger(__name__)

Result = Literal["linked", "copied", "left out"]
#: The folder of series without PatientID, which count as one patient unless a split file names their patients.
_NO_PATIENT = "patient-unknown"
_NOT_SELECTED = "not selected"
_HASH_DIGITS = 10


@dataclasses.dataclass(frozen=True)
class SortedSeries:
    """A row of the table: what was done with a series or a file, and why.

    ``folder``: its folder in the tree, relative to it; empty if it was left out. ``path``: where it was found.
    """

    result: Result
    reason: str
    folder: str
    patient: str
    series_uid: str
    series_number: str
    description: str
    modality: str
    files: int
    path: str


def table_path(tree: Path) -> Path:
    """Return the path of the table of ``tree``, which is next to it: slice-volumes reads everything inside."""
    return tree.parent / f"{tree.name}.csv"


def check_tree(tree: Path, searched: Sequence[Path]) -> None:
    """Refuse, before anything is read, a tree that cannot be written or that would be searched itself next time.

    Raises :class:`~medcyclegan.errors.UsageError` or :class:`~medcyclegan.errors.WriteError`.
    """
    here = Path(os.path.realpath(tree))
    for path in searched:
        if here.is_relative_to(os.path.realpath(path)):
            raise UsageError(
                f"--link-into {tree} is inside {path}, which is searched: its links would be found as copies of the "
                "series: name a folder outside"
            )
    if tree.name in ("", ".."):
        raise UsageError(f"--link-into {tree}: name a folder, such as volumes/ct")
    check_output(tree, overwrite=True)
    if tree.exists() and not tree.is_dir():
        raise WriteError(f"{tree} is a file: name a folder with --link-into")
    _read_table(table_path(tree))


def sort_series(
    rows: Sequence[InspectedVolume],
    selected: Collection[InspectedVolume],
    others: Mapping[str, int],
    tree: Path,
    *,
    copy: bool = False,
    overwrite: bool = False,
) -> list[SortedSeries]:
    """Link the DICOM series among ``selected`` that can be read into ``tree``, one folder per patient and series.

    ``rows``: all that were found; the table names those that are not selected too, and ``others``, the numbers of
    files that are no volumes. The names of folders are hashes of PatientID and SeriesInstanceUID, so that repeated
    calls add to the tree; files are numbered. Each folder appears complete or not at all. With ``copy``, and where the
    file system has no links, files are copied. A folder with other files is replaced only with ``overwrite``. Returns
    the rows of the table next to the tree, which is updated.

    Raises :class:`~medcyclegan.errors.AmbiguousError` for series of several modalities, which no domain may mix, and
    :class:`~medcyclegan.errors.ReadError` if there is nothing to link.
    """
    plan = _plan(rows, selected)
    kept = [(row, folder) for row, folder, reason in plan if not reason]
    _check_modality([row for row, _ in kept], tree)
    if not kept:
        raise ReadError(f"no series to link into {tree}: {_reasons(plan)}")
    present = {folder: _is_there(tree / folder, row, copy=copy) for row, folder in kept}
    changed = [folder for folder, same in present.items() if same is False]
    if changed and not overwrite:
        raise WriteError(
            f"{tree / changed[0]} holds other files than the series now has ({len(changed)} such folders): pass "
            "--overwrite to replace them, or name another folder"
        )
    if copy:
        todo = [row for row, folder in kept if not present[folder]]
        check_space(tree / "x", sum(os.path.getsize(path) for row in todo for path in row.file_paths), "the copy")
    results: dict[str, Result] = {}
    with progress_bar("sorting", len(kept)) as bar:
        for row, folder in kept:
            if not present[folder]:
                _make_folder(tree / folder, row, copy, overwrite)
            results[folder] = "linked" if any(path.is_symlink() for path in (tree / folder).iterdir()) else "copied"
            bar.advance()
    _report(results, [folder for folder, same in present.items() if same], copy=copy)
    table = [_table_row(row, folder, reason, results) for row, folder, reason in plan]
    table += [SortedSeries("left out", reason, "", "", "", "", "", "", n, "") for reason, n in others.items()]
    _save_table(table_path(tree), table)
    return table


def _plan(
    rows: Sequence[InspectedVolume], selected: Collection[InspectedVolume]
) -> list[tuple[InspectedVolume, str, str]]:
    """Return for each row its folder, or an empty name and the reason why it is left out."""
    chosen = {id(row) for row in selected}
    # of copies of a series, the most complete one
    best: dict[str, InspectedVolume] = {}
    for row in rows:
        if id(row) in chosen and not _unfit(row):
            folder = _folder_of(row)
            best[folder] = max(best.get(folder, row), row, key=lambda r: r.files)
    plan = []
    for row in rows:
        reason = _NOT_SELECTED if id(row) not in chosen else _unfit(row)
        folder = "" if reason else _folder_of(row)
        if folder and best[folder] is not row:
            folder, reason = "", f"a copy of the same series in {best[folder].path} is used"
        plan.append((row, folder, reason))
    return plan


def _unfit(row: InspectedVolume) -> str:
    """Return why a selected row is not linked; empty if it is."""
    if row.kind != "dicom":
        return "not DICOM, so without a series: move the file itself into the domain's folder"
    if row.verdict == "ok with options":
        return f"{row.reason} (pass the option to inspect and to slice-volumes)"
    if row.verdict != "ok":
        return f"{row.verdict}: {row.reason}"
    return "" if row.series_uid else "no SeriesInstanceUID"


def _folder_of(row: InspectedVolume) -> str:
    patient = f"patient-{_hash(row.patient)}" if row.patient else _NO_PATIENT
    return f"{patient}/series-{_hash(str(row.series_uid))}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:_HASH_DIGITS]


def _check_modality(rows: Sequence[InspectedVolume], tree: Path) -> None:
    counts = Counter(row.modality or "no modality" for row in rows)
    if len(counts) > 1:
        listed = " and ".join(f"{modality} ({count})" for modality, count in counts.most_common())
        raise AmbiguousError(
            f"the series for {tree} are {listed}, and a domain has one modality",
            remedy=f"select one with --modality {counts.most_common(1)[0][0]}",
        )


def _reasons(plan: Sequence[tuple[InspectedVolume, str, str]]) -> str:
    """Return the reasons of a plan as one text, the most frequent first."""
    counts = Counter(reason for _, _, reason in plan if reason != _NOT_SELECTED)
    listed = [f"{reason} ({count})" if count > 1 else reason for reason, count in counts.most_common(3)]
    return "; ".join(listed) or "none was found or selected"


def _is_there(folder: Path, row: InspectedVolume, *, copy: bool) -> bool | None:
    """Return whether ``folder`` holds the files of ``row`` (``copy``: not as links); None if it does not exist."""
    if not os.path.lexists(folder):
        return None
    try:
        found = sorted(folder.iterdir())
        if len(found) != len(row.file_paths) or (copy and any(path.is_symlink() for path in found)):
            return False
        return all(filecmp.cmp(one, other) for one, other in zip(found, row.file_paths, strict=True))
    except OSError:  # a broken link, or not a folder
        return False


def _make_folder(folder: Path, row: InspectedVolume, copy: bool, overwrite: bool) -> None:
    """Fill ``folder`` with numbered links to the files of ``row``, or with copies."""
    with atomic_folder(folder, overwrite=overwrite) as made:
        digits = max(4, len(str(len(row.file_paths))))
        for number, path in enumerate(row.file_paths, start=1):
            target = made / f"{number:0{digits}}.dcm"
            if not copy:
                try:
                    os.symlink(os.path.abspath(path), target)
                    continue
                except OSError:  # a file system without links
                    copy = True
            shutil.copy2(path, target)


def _report(results: Mapping[str, Result], present: Collection[str], *, copy: bool) -> None:
    if present:
        log.info("%d of %d series were there already", len(present), len(results))
    if not copy and "copied" in [result for folder, result in results.items() if folder not in present]:
        log.warning("links cannot be made here: the files were copied")
    unknown = sum(folder.startswith(_NO_PATIENT) for folder in results)
    if unknown:
        log.warning(
            "%d series have no PatientID: they are in the folder %s and count as one patient unless a split file "
            "names their patients (slice-volumes --split-file)", unknown, _NO_PATIENT,
        )  # fmt: skip


def _table_row(row: InspectedVolume, folder: str, reason: str, results: Mapping[str, Result]) -> SortedSeries:
    return SortedSeries(
        result=results[folder] if folder else "left out",
        reason=reason,
        folder=folder,
        patient=one_line(row.patient or ""),
        series_uid=row.series_uid or "",
        series_number=one_line(row.series_number or ""),
        description=row.description or "",
        modality=row.modality or "",
        files=row.files,
        path=os.path.abspath(row.path),
    )


def _read_table(file: Path) -> list[SortedSeries]:
    """Read the table of an earlier call; raise WriteError for a file that is something else."""
    names = [field.name for field in dataclasses.fields(SortedSeries)]
    try:
        with file.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            reader = csv.DictReader(stream)
            if reader.fieldnames != names:
                raise WriteError(f"{file} is not a table of an earlier --link-into: rename it, or name another folder")
            return [_row_of(line) for line in reader]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise WriteError(f"{file} cannot be read ({error}): remove it, or name another folder") from None


def _row_of(fields: Mapping[str, Any]) -> SortedSeries:
    if fields["result"] not in get_args(Result):
        raise ValueError(f"the result {fields['result']!r}")
    return SortedSeries(**{**fields, "files": int(fields["files"])})


def _save_table(file: Path, table: Sequence[SortedSeries]) -> None:
    """Write the table, readable by its owner only; rows of earlier calls about other series are kept."""
    earlier = {(row.series_uid, row.path): row for row in _read_table(file) if row.path}
    # a series that an earlier call linked is still in the tree
    table = [
        earlier.get((row.series_uid, row.path), row) if row.reason == _NOT_SELECTED and row.path else row
        for row in table
    ]
    own = {(row.series_uid, row.path) for row in table}
    kept = [row for place, row in earlier.items() if place not in own]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in dataclasses.fields(SortedSeries)])
    rows = sorted([*kept, *table], key=lambda row: (row.result == "left out", row.folder, row.path, row.series_uid))
    writer.writerows(dataclasses.astuple(row) for row in rows)
    with atomic_write(file, mode=0o600) as stream:
        stream.write(text.getvalue().encode("utf-8", "surrogateescape"))
