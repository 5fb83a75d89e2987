"""Who is trained on and who is held out: by patient, the same in every domain."""

from __future__ import annotations

import csv
import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from medcyclegan.errors import ConfigError
from medcyclegan.manifest import Split

__all__ = ["FEWEST_TO_SPLIT", "assign_splits", "describe_splits", "patient_of_name", "read_split_file"]

log = logging.getLogger(__name__)

#: With fewer patients in a domain than this, all of them train.
FEWEST_TO_SPLIT = 5

_VISIT = re.compile(r"(visit|ses|session|study|scan|tp|timepoint|time|run|acq|echo)[-]?\w*|v\d+|\d{8}")
#: A visit whose number or label stands apart, a date in parts. Not scan and study: these may number patients.
_VISIT_APART = re.compile(
    r"(?<![A-Za-z0-9])((ses|run|acq|echo)-[A-Za-z0-9+]+|(visit|ses|session|tp|timepoint|run|acq|echo)[-_.\s]+\d+[a-z]?"
    r"|(19|20)\d\d([-_.])(0[1-9]|1[0-2])\5(0[1-9]|[12]\d|3[01]))"
    r"(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_BIDS_SUBJECT = re.compile(r"(?:^|[/_])sub-([A-Za-z0-9]+)")
_SPLITS: Mapping[str, Split] = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}


def patient_of_name(name: str, domain: str) -> str:
    """Guess the patient from a volume's relative name (``sub/folder/stem``), where no header says it.

    BIDS's ``sub-`` label; else the first sub-folder under the domain; else the stem without the
    domain's name and the visit (``patient12_t1_visit2`` in ``t1`` is ``patient12``).
    """
    subject = _BIDS_SUBJECT.search(name)
    if subject:
        return f"sub-{subject[1]}"
    folder, _, stem = name.rpartition("/")
    if folder:
        return folder.split("/")[0]
    return _without_visits(_VISIT_APART.sub("_", stem), domain) or _without_visits(stem, domain) or stem


def _without_visits(stem: str, domain: str) -> str:
    tokens = [token for token in re.split(r"[_.\s-]+", stem) if token]
    contrast = (domain.lower(), f"{domain.lower()}w")
    return "_".join(t for t in tokens if t.lower() not in contrast and not _VISIT.fullmatch(t.lower()))


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


def read_split_file(path: Path) -> list[tuple[str, str, Split]]:
    """Read the rows (case, patient, split) of a CSV with these three headings.

    Raises :class:`~medcyclegan.errors.ConfigError` for a missing file, missing headings, an unknown
    split, or a patient in two splits.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the split file cannot be read: {error}") from None
    reader = csv.DictReader(text.splitlines())
    try:
        lines = list(reader)
    except csv.Error as error:
        raise ConfigError(f"{path}, line {reader.line_num}: not a line of a CSV file ({error}): repair it") from None
    missing = {"case", "patient", "split"} - set(reader.fieldnames or ())
    if missing:
        raise ConfigError(f"{path}: no column {', '.join(sorted(missing))}: its first line must be case,patient,split")
    rows: list[tuple[str, str, Split]] = []
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


def describe_splits(splits: Sequence[Split]) -> str:
    """Return the counts as words: ``12 train, 1 validation, 1 test``."""
    return ", ".join(f"{splits.count(s)} {s}" for s in ("train", "validation", "test") if splits.count(s))
