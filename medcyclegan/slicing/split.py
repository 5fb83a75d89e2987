"""Who is trained on and who is held out: by patient, the same in every domain."""

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

#: With fewer patients in a domain than this, all of them train.
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

    ``patients``: the patients of each domain. ``fractions``: the shares held out for validation and
    for testing (at least one patient each, unless 0). ``known``: assignments that stand. The choice
    depends on ``seed`` and on the names, not on their order. Under :data:`FEWEST_TO_SPLIT` patients
    in a domain, all of them train, and that is said.
    """
    result: dict[str, Split] = dict(known)
    for domain in sorted(patients, key=lambda name: (len(patients[name]) >= FEWEST_TO_SPLIT, name)):
        members = sorted(patients[domain], key=lambda name: _order(seed, name))
        if all(member in result for member in members):
            continue
        if len(members) < FEWEST_TO_SPLIT:
            log.warning(
                "%s: %d patient%s, under %d, so all of them train and none is held out",
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
    """Return what puts a name in its place; names of files need not be UTF-8."""
    return hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogateescape")).digest()


SplitFileRow = tuple[str, str, Split]


def read_split_file(path: Path) -> list[SplitFileRow]:
    """Read the rows (case, patient, split) of a CSV with these three headings; others are passed over.

    Raises :class:`~medcyclegan.errors.ConfigError` for a missing file, missing headings, an unknown
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
    """Write a CSV that :func:`read_split_file` reads, each row with what says who the patient is; return ``path``.

    It names patients and files, so only its owner can read it. Raises :class:`~medcyclegan.errors.WriteError` where it
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
    """Return the number of patients as words, by split: ``12 patients (10 train, 1 validation, 1 test)``."""
    return f"{len(splits)} patient{'' if len(splits) == 1 else 's'} ({describe_splits(list(splits.values()))})"


def describe_splits(splits: Sequence[Split]) -> str:
    """Return the counts as words: ``12 train, 1 validation, 1 test``."""
    return ", ".join(f"{splits.count(s)} {s}" for s in ("train", "validation", "test") if splits.count(s))
