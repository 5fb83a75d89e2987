"""Derive the manifest from the rows of a store: one modality per domain, one split for volumes of the same image."""

from __future__ import annotations

import collections
import dataclasses
import logging
from collections.abc import Mapping, Sequence

from medcyclegan.errors import ConfigError
from medcyclegan.manifest import SliceRow, Split
from medcyclegan.slicing.domains import check_one_modality
from medcyclegan.slicing.patients import find_alike

__all__ = ["Names", "settle_rows", "strongest_split"]

log = logging.getLogger(__name__)

#: Names of cases by domain and keyed hash; those of earlier calls are not known.
Names = Mapping[tuple[str, str], str]

#: Priority of splits when volumes are joined: a volume that was used for training is never held out.
_STRONGEST: tuple[Split, ...] = ("train", "validation", "test")
#: Number of pairs of like images that are named.
_LISTED = 5


def settle_rows(rows: Sequence[SliceRow], names: Names, *, report: bool = False) -> list[SliceRow]:
    """Return the rows of the manifest, independent of the order of ``rows``.

    Patients with volumes that are (nearly) the same image become one patient, whose volumes all get one split: that of
    the split file, else train before validation before test. Fields that only the store needs are left out. ``report``:
    warn of each pair of like images.

    Raises :class:`~medcyclegan.errors.IntensityError` for a domain of several modalities, and
    :class:`~medcyclegan.errors.ConfigError` if the split file puts the same image into two splits.
    """
    _check_modalities(rows, names)
    groups = _group_patients(rows, names, report=report)
    members: dict[str, list[SliceRow]] = collections.defaultdict(list)
    for row in rows:
        members[groups[row.patient]].append(row)
    splits = {patient: _split_of(own, names) for patient, own in members.items()}
    settled = []
    for row in rows:
        patient = groups[row.patient]
        joined = patient != row.patient and row.patient_source not in ("split file", "doubtful")
        settled.append(
            dataclasses.replace(
                row,
                patient=patient,
                split=splits[patient],
                patient_source="same image" if joined else row.patient_source,
                likeness="",
                origin=(),
            )
        )
    return settled


def strongest_split(splits: Sequence[Split]) -> Split:
    """Return the split that has priority when volumes of several splits are joined."""
    return min(splits, key=_STRONGEST.index)


def _check_modalities(rows: Sequence[SliceRow], names: Names) -> None:
    found: dict[str, dict[str, list[str]]] = collections.defaultdict(lambda: collections.defaultdict(list))
    for row in rows:
        found[row.domain][row.modality or "pictures"].append(_name(row, names))
    for domain, modalities in found.items():
        check_one_modality(domain, modalities)


def _group_patients(rows: Sequence[SliceRow], names: Names, *, report: bool) -> dict[str, str]:
    """Map each patient to the one that represents all patients with the same images."""
    groups = {row.patient: row.patient for row in rows}

    def find(patient: str) -> str:
        while groups[patient] != patient:
            patient = groups[patient]
        return patient

    joined = 0
    for a, b in find_alike([row.likeness for row in rows]):
        one, other = find(rows[a].patient), find(rows[b].patient)
        if one == other:
            continue
        groups[max(one, other)] = min(one, other)
        joined += 1
        if report and joined <= _LISTED:
            log.warning(
                "%s and %s are the same image, or nearly: they count as one patient and are in one split",
                _name(rows[a], names), _name(rows[b], names),
            )  # fmt: skip
    if report and joined > _LISTED:
        log.warning("%d more pairs of patients have the same images and count as one each", joined - _LISTED)
    return {patient: find(patient) for patient in groups}


def _split_of(rows: Sequence[SliceRow], names: Names) -> Split:
    given = {
        row.split: row for row in sorted(rows, key=lambda row: _name(row, names)) if row.patient_source == "split file"
    }
    if len(given) > 1:
        (one, a), (other, b) = list(given.items())[:2]
        raise ConfigError(
            f"{_name(a, names)} and {_name(b, names)} are the same image, or nearly, but the split file puts one into "
            f"{one} and one into {other}: give both one split, or leave one of them out"
        )
    return next(iter(given)) if given else strongest_split([row.split for row in rows])


def _name(row: SliceRow, names: Names) -> str:
    return names.get((row.domain, row.case), f"a volume of {row.domain} of an earlier call")
