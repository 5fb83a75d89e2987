"""Folds of a slice store for cross-validation: the same slices with other splits, by patient."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from medcyclegan.errors import UsageError, WriteError
from medcyclegan.manifest import MANIFEST, SliceRow, Split, load_manifest, rows_to_text
from medcyclegan.slicing.split import assign_splits
from medcyclegan.storage import atomic_folder

__all__ = ["save_fold"]


def save_fold(
    store: Path,
    out: Path,
    *,
    fold: int,
    folds: int,
    seed: int = 0,
    validation_fraction: float = 0.0,
    overwrite: bool = False,
) -> Path:
    """Write fold ``fold`` (from 0) of ``folds`` of the slice store ``store`` as the store ``out``; return it.

    Every patient is in the test split of exactly one fold, in all domains at once. Of the other patients
    ``validation_fraction`` are for validation, the rest for training. Stacks are hard links, or copies if the file
    system has no links; the key is not copied. The same seed gives the same folds. Raises
    :class:`~medcyclegan.errors.UsageError` for fewer patients than folds.
    """
    rows = load_manifest(store)
    names = _names_by_content(rows)
    patients = sorted(names.values(), key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    if not 2 <= folds <= len(patients) or not 0 <= fold < folds:
        raise UsageError(f"fold {fold} of {folds} with {len(patients)} patients: 2 folds or more, one patient in each")
    known: dict[str, Split] = dict.fromkeys(patients[fold::folds], "test")
    domains: dict[str, set[str]] = {}
    for row in rows:
        domains.setdefault(row.domain, set()).add(names[row.patient])
    splits = assign_splits(domains, seed=seed, fractions=(validation_fraction, 0.0), known=known)
    changed = [dataclasses.replace(row, split=splits[names[row.patient]]) for row in rows]
    with atomic_folder(out, overwrite=overwrite) as folder:
        for row in changed:
            (folder / row.domain).mkdir(exist_ok=True)
            _link(store / row.file, folder / row.file)
        (folder / MANIFEST).write_bytes(rows_to_text(changed).encode())
    return out


def _names_by_content(rows: Sequence[SliceRow]) -> dict[str, str]:
    """Return a name for each patient that depends on the slices, not on the store's key."""
    contents: dict[str, list[str]] = {}
    for row in rows:
        contents.setdefault(row.patient, []).append(row.content)
    names = {patient: hashlib.sha256("".join(sorted(own)).encode()).hexdigest() for patient, own in contents.items()}
    # Patients with the same slices still count separately.
    seen: set[str] = set()
    for patient in sorted(names):
        if names[patient] in seen:
            names[patient] += patient
        seen.add(names[patient])
    return names


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            raise WriteError(f"{target} cannot be written: {error.strerror}") from None
