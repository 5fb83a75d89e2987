"""Find pairs of fake and reference: from two volumes, two folders, or a CSV of pairs."""

from __future__ import annotations

import collections
import csv
import dataclasses
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from medcyclegan.errors import AmbiguousError, ReadError
from medcyclegan.io import FoundVolume, ReadOptions, find_volumes
from medcyclegan.io.formats import READABLE
from medcyclegan.slicing.patients import Named, bids_subject, guess_patients

__all__ = ["Pair", "find_one", "find_pairs", "names_pairs", "read_pairs", "with_fakes"]

log = logging.getLogger(__name__)

_ENTITY = re.compile(r"(sub|ses|run)-([A-Za-z0-9]+)")
_COLUMNS = ("fake", "reference")
_MORE_COLUMNS = ("case", "patient", "input", "mask", "target")
#: The columns of organs at risk are this and the organ's name.
_ORGAN = "organ:"


@dataclasses.dataclass(frozen=True)
class Pair:
    """A case: its name, the fake, its reference, and optionally a mask and the input (``source``) of the translation.

    ``patient``: the same for all cases of a patient, and never a PatientID; None if each case is a patient.
    ``target``, ``organs``: masks for the dose, of the target and of organs at risk by name.
    """

    case: str
    fake: FoundVolume
    reference: FoundVolume
    mask: FoundVolume | None = None
    source: FoundVolume | None = None
    patient: str | None = None
    target: FoundVolume | None = None
    organs: Mapping[str, FoundVolume] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class _Side:
    """The volumes of one side, indexed by name and by BIDS subject, so that a partner is found in one lookup."""

    by_name: Mapping[str, Sequence[FoundVolume]]
    by_subject: Mapping[str, Sequence[FoundVolume]]


def find_pairs(
    fake: Path,
    reference: Path,
    *,
    mask: Path | None = None,
    source: Path | None = None,
    target: Path | None = None,
    organs: Mapping[str, Path] | None = None,
    options: ReadOptions,
) -> list[Pair]:
    """Pair the volumes in ``fake`` with those in ``reference`` (files, DICOM folders, or folders of them).

    A single volume on each side is a pair. Otherwise volumes are matched by their path below the folder, without
    extension, or else by the BIDS entities ``sub``, ``ses`` and ``run`` that both names have. ``mask``, ``source`` (the
    inputs of the translations), ``target`` and ``organs`` are matched in the same way. ``options`` select among the
    series of the reference.

    Raises :class:`~medcyclegan.errors.ReadError` if there are no pairs or a mask or input is missing, and
    :class:`~medcyclegan.errors.AmbiguousError` if several volumes match.
    """
    fakes = _found(fake, ReadOptions())
    sides = {"reference": _found(reference, options)}
    others = {"mask": mask, "input": source, "target": target} | _organ_columns(organs or {})
    sides |= {name: _found(path, ReadOptions()) for name, path in others.items() if path is not None}
    if len(fakes) == 1 and all(len(side) == 1 for side in sides.values()):
        only = {name: side[0] for name, side in sides.items()}
        return _with_patients([_pair(fakes[0].name, {"fake": fakes[0], **only})])
    indexed = {name: _indexed(volumes) for name, volumes in sides.items()}
    pairs, lonely = [], []
    for found in fakes:
        match = _partner(found, indexed["reference"], "reference")
        if match is None:
            lonely.append(found.name)
            continue
        needed = {name: _needed(found, side, name) for name, side in indexed.items() if name != "reference"}
        pairs.append(_pair(found.name, {"fake": found, "reference": match, **needed}))
    if not pairs:
        raise ReadError(
            f"none of the {len(fakes)} volumes in {fake} ({_list(lonely)}) has a reference in {reference} "
            f"({_list([other.name for other in sides['reference']])}): list the pairs in a file with --pairs CSV"
        )
    if lonely:
        log.warning("%d of %d fakes have no reference and are left out: %s", len(lonely), len(fakes), _list(lonely))
    return _with_patients(pairs)


def read_pairs(
    path: Path, options: ReadOptions | None = None, *, first: Literal["fake", "input"] = "fake"
) -> list[Pair]:
    """Read pairs from a CSV with the columns ``fake`` and ``reference``.

    Optional columns are ``case``, ``patient``, ``input``, ``mask``, ``target`` and ``organ:NAME``. With
    ``first="input"``, ``input`` is needed instead of ``fake``, which is ignored, and the ``fake`` of the pairs is the
    input: it is to be translated. Paths are relative to the folder of the CSV. ``options`` select among the series of
    each reference. Raises :class:`~medcyclegan.errors.ReadError` with the number of the line.
    """
    try:
        reader = csv.DictReader(path.read_text("utf-8-sig").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise ReadError(f"{path}: the pairs cannot be read: {error}") from None
    columns = set(reader.fieldnames or ())
    needed = (first, "reference")
    organs = sorted(name for name in columns if str(name).startswith(_ORGAN))
    if not set(needed) <= columns or columns - {*_COLUMNS, *_MORE_COLUMNS, *organs}:
        raise ReadError(
            f"{path}: its columns are {', '.join(map(str, reader.fieldnames or ())) or 'none'}: the first line must "
            f"contain {', '.join(needed)} and may contain {', '.join(_MORE_COLUMNS)}, {_ORGAN}NAME"
        )
    pairs = []
    for number, row in enumerate(reader, start=2):
        cells = {name: (row.get(name) or "").strip() for name in (*_COLUMNS, *_MORE_COLUMNS, *organs)}
        if not all(cells[name] for name in needed) or None in row:
            article = "an" if first == "input" else "a"
            raise ReadError(
                f"{path}, line {number}: give {article} {first} and a reference, and no more cells than columns"
            )
        if first == "input":
            cells["fake"] = cells["input"]
        chosen = {"reference": options}
        found = {name: find_one(path.parent / cells[name], chosen.get(name))
                 for name in ("fake", "reference", "mask", "input", "target", *organs) if cells[name]}  # fmt: skip
        pairs.append(_pair(cells["case"] or found["fake"].name, found, cells["patient"] or None))
    if not pairs:
        raise ReadError(f"{path}: contains no pairs: write one line for each pair")
    twice = sorted(name for name, count in collections.Counter(pair.case for pair in pairs).items() if count > 1)
    if twice:
        raise ReadError(
            f"{path}: several pairs are called {_list(twice)}: give each pair a different name in the column case"
        )
    return _with_patients(pairs)


def names_pairs(path: Path) -> bool:
    """Return whether a CSV has the columns that :func:`read_pairs` needs."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return set(_COLUMNS) <= set(next(csv.reader(file), ()))
    except (OSError, UnicodeDecodeError) as error:
        raise ReadError(f"{path} cannot be read: {error}") from None


def with_fakes(pairs: Sequence[Pair], folder: Path) -> list[Pair]:
    """Return the same cases with the fakes of another model, found in ``folder`` by the names of the present fakes.

    Raises :class:`~medcyclegan.errors.ReadError` if one is missing.
    """
    others = _indexed(_found(folder, ReadOptions()))
    return [dataclasses.replace(pair, fake=_needed(pair.fake, others, f"fake in {folder}")) for pair in pairs]


def find_one(path: Path, options: ReadOptions | None = None) -> FoundVolume:
    """Return the only volume at ``path`` (a file, or a folder with one DICOM series) that ``options`` select.

    Raises :class:`~medcyclegan.errors.AmbiguousError` if there are several.
    """
    found = _found(path, options or ReadOptions())
    if len(found) > 1:
        raise AmbiguousError(
            f"{path}: contains {len(found)} volumes ({_list([v.name for v in found])}): name one of them"
        )
    return found[0]


def _pair(case: str, found: Mapping[str, FoundVolume], patient: str | None = None) -> Pair:
    """Return the pair of the volumes found for each column of :func:`read_pairs`."""
    organs = {name.removeprefix(_ORGAN): volume for name, volume in found.items() if name.startswith(_ORGAN)}
    others = (found.get("mask"), found.get("input"), patient, found.get("target"), organs)
    return Pair(case, found["fake"], found["reference"], *others)


def _organ_columns(organs: Mapping[str, Path]) -> dict[str, Path]:
    return {f"{_ORGAN}{name}": path for name, path in organs.items()}


def _with_patients(pairs: Sequence[Pair]) -> list[Pair]:
    """Return the pairs with their patients: as given, else by DICOM PatientID, else guessed from the case name.

    A PatientID is replaced by the name of the patient's first case, because tables and pages are passed on.
    """
    named: dict[str, str] = {}
    known = []
    for pair in pairs:
        patient, volumes = pair.patient, (pair.reference, pair.source, pair.fake)
        identity = next((v.patient for v in volumes if v is not None and v.patient), None)
        if patient is None and identity is not None:
            patient = named.setdefault(identity, pair.case)
        known.append(dataclasses.replace(pair, patient=patient or bids_subject(pair.case)))
    unknown = [pair.case for pair in known if pair.patient is None]
    guesses = dict(zip(unknown, guess_patients([Named("", case) for case in unknown], {}), strict=True))
    known = [pair if pair.patient else dataclasses.replace(pair, patient=guesses[pair.case].patient) for pair in known]
    count = len({pair.patient for pair in known})
    if count < len(known):
        log.warning(
            "%d cases count as %d patient%s (by the column patient, by PatientID, or by name): if this is wrong, "
            "give the patients in a CSV with --pairs", len(known), count, "" if count == 1 else "s",
        )  # fmt: skip
    return known


def _found(path: Path, options: ReadOptions) -> list[FoundVolume]:
    found = find_volumes(path, options)
    if not found:
        which = f" of series {options.series}" if options.series else ""
        raise ReadError(f"{path}: no volume{which} found ({READABLE}): check the name")
    return found


def _indexed(volumes: Sequence[FoundVolume]) -> _Side:
    by_name, by_subject = collections.defaultdict(list), collections.defaultdict(list)
    for volume in volumes:
        by_name[volume.name].append(volume)
        by_subject[_entities(volume.name).get("sub", "")].append(volume)
    return _Side(by_name, by_subject)


def _needed(found: FoundVolume, others: _Side, what: str) -> FoundVolume:
    match = _partner(found, others, what)
    if match is None:
        raise ReadError(
            f"{found.name}: no {what} has the same name or BIDS entities: add it, or list the pairs with --pairs"
        )
    return match


def _partner(found: FoundVolume, others: _Side, what: str) -> FoundVolume | None:
    """Return the volume of ``others`` that belongs to ``found``, or None."""
    same = list(others.by_name.get(found.name, ()))
    mine = _entities(found.name)
    if not same and "sub" in mine:
        same = [other for other in others.by_subject.get(mine["sub"], ()) if _agree(mine, _entities(other.name))]
        exact = [other for other in same if _entities(other.name) == mine]
        same = exact or same
    if len(same) > 1:
        raise AmbiguousError(
            f"{found.name}: {len(same)} volumes could be its {what} ({_list([o.name for o in same])}): "
            "list the pairs with --pairs CSV"
        )
    return same[0] if same else None


def _entities(name: str) -> dict[str, str]:
    return dict(_ENTITY.findall(name))


def _agree(first: dict[str, str], second: dict[str, str]) -> bool:
    return all(first[key] == second[key] for key in first.keys() & second.keys())


def _list(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
