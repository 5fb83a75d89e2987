"""Which fake belongs to which reference: two volumes, two folders, or a CSV that names the pairs."""

from __future__ import annotations

import collections
import csv
import dataclasses
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from medcyclegan.errors import AmbiguousError, ReadError
from medcyclegan.io import FoundVolume, ReadOptions, find_volumes
from medcyclegan.io.formats import READABLE
from medcyclegan.slicing.patients import Named, bids_subject, guess_patients

__all__ = ["Pair", "find_one", "find_pairs", "names_pairs", "read_pairs", "with_fakes"]

log = logging.getLogger(__name__)

_ENTITY = re.compile(r"(sub|ses|run)-([A-Za-z0-9]+)")
_COLUMNS = ("fake", "reference")
_MORE_COLUMNS = ("case", "patient", "input", "mask")


@dataclasses.dataclass(frozen=True)
class Pair:
    """A case: its name, what is scored, against what, where, and what it was translated from.

    ``patient``: the same for all cases of a patient, and never a PatientID; None where each case is a patient.
    """

    case: str
    fake: FoundVolume
    reference: FoundVolume
    mask: FoundVolume | None = None
    source: FoundVolume | None = None
    patient: str | None = None


@dataclasses.dataclass(frozen=True)
class _Side:
    """The volumes of one side, by name and by BIDS subject: each partner is then found by one look."""

    by_name: Mapping[str, Sequence[FoundVolume]]
    by_subject: Mapping[str, Sequence[FoundVolume]]


def find_pairs(
    fake: Path, reference: Path, *, mask: Path | None = None, source: Path | None = None, options: ReadOptions
) -> list[Pair]:
    """Pair the volumes under ``fake`` with those under ``reference`` (files, DICOM folders, or folders of such).

    One volume on each side is a pair. Otherwise the name decides: the same path below the folder, endings aside;
    else the same BIDS entities ``sub``, ``ses``, ``run``, as far as both names hold them. ``mask`` and ``source``
    (the translations' inputs) are matched in the same way. ``options`` choose among the series of the reference.

    Raises :class:`~medcyclegan.errors.ReadError` where nothing can be paired or a mask or input is missing, and
    :class:`~medcyclegan.errors.AmbiguousError` where several volumes could be meant.
    """
    fakes = _found(fake, ReadOptions())
    sides = {"reference": _found(reference, options)}
    for name, path in (("mask", mask), ("input", source)):
        if path is not None:
            sides[name] = _found(path, ReadOptions())
    if len(fakes) == 1 and all(len(side) == 1 for side in sides.values()):
        only = {name: side[0] for name, side in sides.items()}
        return _with_patients([Pair(fakes[0].name, fakes[0], only["reference"], only.get("mask"), only.get("input"))])
    indexed = {name: _indexed(volumes) for name, volumes in sides.items()}
    pairs, lonely = [], []
    for found in fakes:
        match = _partner(found, indexed["reference"], "reference")
        if match is None:
            lonely.append(found.name)
            continue
        beside = {name: _needed(found, indexed[name], name) for name in ("mask", "input") if name in indexed}
        pairs.append(Pair(found.name, found, match, beside.get("mask"), beside.get("input")))
    if not pairs:
        raise ReadError(
            f"none of the {len(fakes)} volumes of {fake} has a reference in {reference}: {_list(lonely)} there, "
            f"{_list([other.name for other in sides['reference']])} here; name the pairs in a file with --pairs CSV"
        )
    if lonely:
        log.warning("%d of %d fakes have no reference and are left out: %s", len(lonely), len(fakes), _list(lonely))
    return _with_patients(pairs)


def read_pairs(path: Path, options: ReadOptions | None = None) -> list[Pair]:
    """Read pairs from a CSV with the columns ``fake``, ``reference`` and, if wanted, the other ones of a :class:`Pair`.

    These are ``case``, ``patient``, ``input`` and ``mask``. Paths are taken from the CSV's folder. ``options`` choose
    among the series of each reference. Raises :class:`~medcyclegan.errors.ReadError`, naming the line.
    """
    try:
        reader = csv.DictReader(path.read_text("utf-8-sig").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise ReadError(f"{path}: the pairs cannot be read: {error}") from None
    columns = set(reader.fieldnames or ())
    if not set(_COLUMNS) <= columns or columns - {*_COLUMNS, *_MORE_COLUMNS}:
        raise ReadError(
            f"{path}: its columns are {', '.join(map(str, reader.fieldnames or ())) or 'none'}: the first line must "
            f"hold {', '.join(_COLUMNS)} and may hold {', '.join(_MORE_COLUMNS)}"
        )
    pairs = []
    for number, row in enumerate(reader, start=2):
        cells = {name: (row.get(name) or "").strip() for name in (*_COLUMNS, *_MORE_COLUMNS)}
        if not all(cells[name] for name in _COLUMNS) or None in row:
            raise ReadError(f"{path}, line {number}: a fake and a reference are needed, and no more cells than columns")
        chosen = {"reference": options}
        found = {name: find_one(path.parent / cells[name], chosen.get(name))
                 for name in ("fake", "reference", "mask", "input") if cells[name]}  # fmt: skip
        case = cells["case"] or found["fake"].name
        beside = (found.get("mask"), found.get("input"), cells["patient"] or None)
        pairs.append(Pair(case, found["fake"], found["reference"], *beside))
    if not pairs:
        raise ReadError(f"{path}: no pairs: write a line for each")
    twice = sorted(name for name, count in collections.Counter(pair.case for pair in pairs).items() if count > 1)
    if twice:
        raise ReadError(f"{path}: several pairs are called {_list(twice)}: tell them apart in the column case")
    return _with_patients(pairs)


def names_pairs(path: Path) -> bool:
    """Whether a CSV's first line says that it names pairs, as :func:`read_pairs` reads them."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return set(_COLUMNS) <= set(next(csv.reader(file), ()))
    except (OSError, UnicodeDecodeError) as error:
        raise ReadError(f"{path} cannot be read: {error}") from None


def with_fakes(pairs: Sequence[Pair], folder: Path) -> list[Pair]:
    """Return the same cases with another model's fakes, found in ``folder`` by the names of the present ones.

    Raises :class:`~medcyclegan.errors.ReadError` where a case has none there.
    """
    others = _indexed(_found(folder, ReadOptions()))
    return [dataclasses.replace(pair, fake=_needed(pair.fake, others, f"fake in {folder}")) for pair in pairs]


def find_one(path: Path, options: ReadOptions | None = None) -> FoundVolume:
    """Return the one volume at ``path``, a file or a folder with one DICOM series, or the one that ``options`` choose.

    Raises :class:`~medcyclegan.errors.AmbiguousError` where there are several.
    """
    found = _found(path, options or ReadOptions())
    if len(found) > 1:
        raise AmbiguousError(f"{path}: holds {len(found)} volumes ({_list([v.name for v in found])}): name one of them")
    return found[0]


def _with_patients(pairs: Sequence[Pair]) -> list[Pair]:
    """Return the pairs with their patients: those given, else DICOM's PatientID, else guessed from the case's name.

    A PatientID is replaced by the name of the patient's first case, since tables and pages travel.
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
            "%d cases count as %d patient%s (by the column patient, by PatientID, else by name): where that is wrong, "
            "name the patients in a CSV with --pairs", len(known), count, "" if count == 1 else "s",
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
            f"{found.name}: no {what} has its name or BIDS entities: add it, or name the pairs with --pairs"
        )
    return match


def _partner(found: FoundVolume, others: _Side, what: str) -> FoundVolume | None:
    """Return the one of ``others`` that belongs to ``found``, or None."""
    same = list(others.by_name.get(found.name, ()))
    mine = _entities(found.name)
    if not same and "sub" in mine:
        same = [other for other in others.by_subject.get(mine["sub"], ()) if _agree(mine, _entities(other.name))]
        exact = [other for other in same if _entities(other.name) == mine]
        same = exact or same
    if len(same) > 1:
        raise AmbiguousError(
            f"{found.name}: {len(same)} volumes could be its {what} ({_list([o.name for o in same])}): "
            "name the pairs with --pairs CSV"
        )
    return same[0] if same else None


def _entities(name: str) -> dict[str, str]:
    return dict(_ENTITY.findall(name))


def _agree(first: dict[str, str], second: dict[str, str]) -> bool:
    return all(first[key] == second[key] for key in first.keys() & second.keys())


def _list(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
