"""Splits for training, validation and testing: by patient, the same in every domain."""

from __future__ import annotations

import csv
import hashlib
import io
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from medcyclegan.errors import ConfigError
from medcyclegan.manifest import Split
from medcyclegan.storage import atomic_write, check_output

__all__ = [
    "FEWEST_TO_SPLIT",
    "SplitFileRow",
    "assign_splits",
    "describe_patients",
    "describe_splits",
    "read_split_file",
    "write_split_file",
]

log = logging.getLogger(__name__)

#: If a domain has fewer patients than this, all of them are used for training.
FEWEST_TO_SPLIT = 5

_COLUMNS = ("case", "patient", "split")
_SPLITS: Mapping[str, Split] = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}


def assign_splits(
    patients: Mapping[str, set[str]],
    *,
    seed: int,
    fractions: tuple[float, float],
    known: Mapping[str, Split],
) -> dict[str, Split]:
    """Return each patient's split; a patient seen in two domains is in the same one in both.

    ``patients``: the patients of each domain. ``fractions``: the fractions held out for validation and for testing
    (at least one patient each, unless 0). ``known``: assignments that are kept. The choice depends on ``seed`` and on
    the names, not on their order. If a domain has fewer than :data:`FEWEST_TO_SPLIT` patients, all of them are used
    for training and a warning is logged.
    """
    result: dict[str, Split] = dict(known)
    for domain in sorted(patients, key=lambda name: (len(patients[name]) >= FEWEST_TO_SPLIT, name)):
        members = sorted(patients[domain], key=lambda name: _order(seed, name))
        if all(member in result for member in members):
            continue
        if len(members) < FEWEST_TO_SPLIT:
            log.warning(
                "%s: %d patient%s, fewer than %d, so all are used for training and no patient is held out",
                domain, len(members), "" if len(members) == 1 else "s", FEWEST_TO_SPLIT,
            )  # fmt: skip
            for member in members:
                result.setdefault(member, "train")
            continue
        for split, fraction in zip(("test", "validation"), fractions[::-1], strict=True):
            wanted = max(1, round(fraction * len(members))) if fraction > 0 else 0
            missing = wanted - sum(result.get(member) == split for member in members)
            for member in [m for m in members if m not in result][: max(0, missing)]:
                result[member] = "test" if split == "test" else "validation"
        for member in members:
            result.setdefault(member, "train")
    return result


def _order(seed: int, name: str) -> bytes:
    """Return the sort key of a name; file names need not be UTF-8."""
    return hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogateescape")).digest()


SplitFileRow = tuple[str, str, Split]


def read_split_file(path: Path) -> list[SplitFileRow]:
    """Read the rows (case, patient, split) of a CSV with these three columns; other columns are ignored.

    Raises :class:`~medcyclegan.errors.ConfigError` for a missing file, a missing column, an unknown
    split, or a patient in two splits.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the split file cannot be read: {error}") from None
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        lines = list(reader)
    except csv.Error as error:
        raise ConfigError(f"{path}, line {reader.line_num}: not a line of a CSV file ({error}): repair it") from None
    missing = set(_COLUMNS) - set(reader.fieldnames or ())
    if missing:
        raise ConfigError(f"{path}: no column {', '.join(sorted(missing))}: its first line must be case,patient,split")
    rows: list[SplitFileRow] = []
    seen: dict[str, Split] = {}
    for number, row in enumerate(lines, start=2):
        case, patient = (row["case"] or "").strip(), (row["patient"] or "").strip()
        split = _SPLITS.get((row["split"] or "").strip().lower())
        if not case or not patient or split is None:
            raise ConfigError(
                f"{path}, line {number}: case {case!r}, patient {patient!r}, split {row['split']!r}: all three are "
                "needed, and the split is train, validation or test"
            )
        if seen.setdefault(patient, split) != split:
            raise ConfigError(
                f"{path}, line {number}: patient {patient!r} is in {seen[patient]} and in {split}: choose one"
            )
        rows.append((case, patient, split))
    return rows


def write_split_file(path: Path, rows: Iterable[tuple[SplitFileRow, str]]) -> Path:
    """Write a CSV for :func:`read_split_file`, with the source of each patient; return ``path``.

    It names patients and files, so only its owner can read it. Raises :class:`~medcyclegan.errors.WriteError` if it
    exists, and :class:`~medcyclegan.errors.ConfigError` for names that no CSV in UTF-8 can hold.
    """
    check_output(path, overwrite=False)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*_COLUMNS, "source"))
    for row, patient_source in sorted(rows):
        for name in row[:2]:
            if name != name.strip() or not name.isprintable():
                raise ConfigError(f"the name {name!r} does not fit into a CSV file: rename the volume or its folder")
        writer.writerow((*row, patient_source))
    with atomic_write(path, mode=0o600) as file:
        file.write(text.getvalue().encode("utf-8"))
    return path


def describe_patients(splits: Mapping[str, Split]) -> str:
    """Return the numbers of patients as text, by split: ``12 patients (10 train, 1 validation, 1 test)``."""
    return f"{len(splits)} patient{'' if len(splits) == 1 else 's'} ({describe_splits(list(splits.values()))})"


def describe_splits(splits: Sequence[Split]) -> str:
    """Return the counts as text: ``12 train, 1 validation, 1 test``."""
    return ", ".join(f"{splits.count(s)} {s}" for s in ("train", "validation", "test") if splits.count(s))
