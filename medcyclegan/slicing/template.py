"""A split file as a template: all volumes with the patient and the split that slicing would assign."""

from __future__ import annotations

import collections
from pathlib import Path

from medcyclegan.config import Config
from medcyclegan.io import ReadOptions
from medcyclegan.manifest import MANIFEST
from medcyclegan.slicing.missing import case_of
from medcyclegan.slicing.patients.identify import case_names
from medcyclegan.slicing.planning import PlannedCase, plan_cases, report_patients
from medcyclegan.slicing.settle import settle_rows, strongest_split
from medcyclegan.slicing.split import SplitFileRow, write_split_file
from medcyclegan.slicing.store import SliceStore, load_store
from medcyclegan.slicing.volumes import Inputs, find_inputs

__all__ = ["save_split_file"]


def save_split_file(
    inputs: Inputs,
    path: str | Path,
    store: str | Path | None = None,
    *,
    config: Config | None = None,
    domain: str | None = None,
    split_file: str | Path | None = None,
    reading: ReadOptions | None = None,
) -> Path:
    """Write the CSV ``path`` with a row (case, patient, split, source) for each volume of ``inputs``; return ``path``.

    The arguments are those of :func:`~medcyclegan.slicing.slice_volumes`. If there is a slice ``store``, the splits in
    it are kept, and patients with the same images in it are one patient. Nothing is sliced. Raises
    :class:`~medcyclegan.errors.WriteError` if ``path`` exists.
    """
    members, _ = find_inputs(inputs, domain, reading or ReadOptions())
    known = load_store(Path(store)) if store is not None and (Path(store) / MANIFEST).is_file() else None
    rows = known.rows() if known is not None else []
    cases = plan_cases(members, config or Config(), Path(split_file) if split_file is not None else None, known, rows)
    report_patients(cases)
    same = _same_images(cases, known) if known is not None else {}
    patients = [same.get(case.identity.patient, case.identity.patient) for case in cases]
    splits = collections.defaultdict(list)
    for case, patient in zip(cases, patients, strict=True):
        splits[patient].append(case.split)
    lines: list[tuple[SplitFileRow, str]] = []
    for case, patient in zip(cases, patients, strict=True):
        name = next(case_names(case.member))
        lines.append(((name, patient, strongest_split(splits[patient])), case.identity.patient_source))
    return write_split_file(Path(path), lines)


def _same_images(cases: list[PlannedCase], store: SliceStore) -> dict[str, str]:
    """Map each patient to the first name of all patients with the same images in the store."""
    settled = {(row.domain, row.case): row.patient for row in settle_rows(store.rows(), {})}
    named: dict[str, set[str]] = collections.defaultdict(set)
    for case in cases:
        patient = settled.get((case.member.domain, case_of(store, case.member)))
        if patient is not None:
            named[patient].add(case.identity.patient)
    return {name: min(names) for names in named.values() for name in names}
