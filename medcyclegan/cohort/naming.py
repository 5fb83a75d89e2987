"""Names of the outputs of many volumes: no two share one, and a repeated call gives each input the same name again.

A name is taken from the input's own path. If that does not distinguish the inputs (several DICOM series in one folder)
or must not be shown (``--deidentify``), it consists of counters of patients and series, never of header text. The file
``.names.jsonl`` in the folder of the outputs records the assignment, with hashes in place of the inputs.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from medcyclegan.cohort.bids import derivative_path, parse_bids_name
from medcyclegan.errors import UsageError
from medcyclegan.io import FoundVolume, output_ending, sidecar_path
from medcyclegan.provenance import hash_json
from medcyclegan.records import read_records, save_records
from medcyclegan.slicing.patients.identify import bids_subject
from medcyclegan.storage import exclusive_lock

__all__ = [
    "ANONYMOUS_NAMES",
    "NAMES",
    "NAMES_LOCK",
    "Names",
    "assign_names",
    "derivative_names",
    "find_derivative",
    "folder_names",
]

NAMES = ".names.jsonl"
#: The record of a folder of de-identified results.
ANONYMOUS_NAMES = ".names-deidentified.jsonl"
NAMES_LOCK = ".names.lock"
#: The numbers of patient and series in a name that consists of counters.
_COUNTED = re.compile(r"(?:patient-(\d+)/series-|sub-(\d+)/(?:\S*_run-)?)(\d*)")

#: The output of each input, by the hash of the input.
Names = dict[str, str]


@dataclasses.dataclass(frozen=True)
class _NamedOutput:
    """The hash of an input, and the path of its output in the folder of the outputs."""

    input: str
    output: str


def assign_names(
    out: Path, choose: Callable[[Names], list[str]], volumes: Sequence[FoundVolume], *, file: str = NAMES
) -> list[str]:
    """Return the output of each of ``volumes``, as ``choose`` returns it, and record new ones in ``file`` of ``out``.

    ``choose`` gets the names that are recorded. A lock makes jobs that share a folder use the same names.
    """
    with exclusive_lock(out / NAMES_LOCK, mode=0o600):
        known = _read_names(out / file)
        found = choose(known)
        merged = known | dict(zip(_keys(volumes), found, strict=True))
        if merged != known:
            save_records(out / file, [_NamedOutput(*item) for item in merged.items()], mode=0o600)
    return found


def _read_names(file: Path) -> Names:
    records = read_records(file, lambda fields: _NamedOutput(**fields))
    return {record.input: record.output for record in records}


def folder_names(volumes: Sequence[FoundVolume], known: Names, *, anonymous: bool = False) -> list[str]:
    """Return the path of each volume's output in a folder of results, in the format of the input.

    ``anonymous``: all names consist of counters.
    """
    keys = _keys(volumes)
    given = dict(known)
    counters = _Counters(volumes, keys, given)
    taken = _Taken(given.values())
    beside = collections.Counter(volume.path for volume in volumes if volume.kind == "dicom")
    for volume, key in zip(volumes, keys, strict=True):
        if key in given:
            continue
        is_series = volume.kind == "dicom"
        mixed = is_series and (beside[volume.path] > 1 or not volume.relative_path.parts)
        if anonymous or mixed:
            stem = "patient-{:03d}/series-{:02d}".format(*counters.next(volume.patient))
        else:  # a name without an ending is a folder
            stem = re.sub(r"\.(?=[^/]*$)", "_", volume.relative_path.as_posix()) if is_series else volume.name
        given[key] = taken.claim(stem, "" if is_series else output_ending(volume.path, volume.kind))
    return [given[key] for key in keys]


def derivative_names(volumes: Sequence[FoundVolume], domain: str, known: Names) -> list[str]:
    """Return the path of each volume's output in a BIDS derivative dataset of ``domain``.

    DICOM series without a BIDS name are named by their patients: by a folder such as ``sub-01``, or else by a counter
    of PatientIDs. Raises
    :class:`~medcyclegan.errors.UsageError` if two other volumes would share a name.
    """
    keys = _keys(volumes)
    given = {key: path for key, path in known.items() if key in keys}
    taken: dict[str, str] = {}
    for volume, key in zip(volumes, keys, strict=True):
        if _is_named_by_patient(volume):
            continue
        path = str(derivative_path(volume.name, domain))
        if path in taken:
            raise UsageError(
                f"{taken[path]!r} and {volume.name!r} would both become {path}: rename one, or translate them "
                "separately"
            )
        given[key], taken[path] = path, volume.name
    counters = _Counters(volumes, keys, {**known, **given})
    for volume, key in zip(volumes, keys, strict=True):
        if key not in given:
            subject = bids_subject(volume.name) or f"sub-{counters.next(volume.patient)[0]:03d}"
            given[key] = next(path for path in _runs(subject, domain) if path not in {*known.values(), *given.values()})
    return [given[key] for key in keys]


def find_derivative(out: Path, found: FoundVolume, domain: str) -> Path:
    """Return the path of the translation of ``found`` in the derivative dataset ``out``; it may not exist."""
    if not _is_named_by_patient(found):
        return out / derivative_path(found.name, domain)
    known = _read_names(out / NAMES)
    keys = (_hash(found), _hash(found, is_copy=True))
    return out / next((known[key] for key in keys if key in known), "not-translated")


def _runs(subject: str, domain: str) -> Iterator[str]:
    """Yield the names of the first and the following volumes of a subject such as ``sub-001``."""
    yield str(derivative_path(f"{subject}_x", domain))
    for run in itertools.count(2):
        yield str(derivative_path(f"{subject}_run-{run:02d}_x", domain))


class _Counters:
    """Numbers of patients, and of series of each patient, that continue those in the names given so far."""

    def __init__(self, volumes: Sequence[FoundVolume], keys: Sequence[str], given: Mapping[str, str]) -> None:
        self._patients: dict[str, int] = {}
        self._series: collections.Counter[int] = collections.Counter()
        for path in given.values():
            if match := _COUNTED.match(path):
                patient = int(match[1] or match[2])
                self._series[patient] = max(self._series[patient], int(match[3] or 1))
        for volume, key in zip(volumes, keys, strict=True):
            match = _COUNTED.match(given.get(key, ""))
            if match and volume.patient:
                self._patients.setdefault(volume.patient, int(match[1] or match[2]))

    def next(self, patient: str | None) -> tuple[int, int]:
        """Return the numbers of ``patient`` and of the next series; a series without a PatientID is a new patient."""
        number = self._patients.get(patient or "") or max(self._series, default=0) + 1
        if patient:
            self._patients[patient] = number
        self._series[number] += 1
        return number, self._series[number]


class _Taken:
    """The paths of outputs and sidecars that are in use, compared as file systems do that ignore case."""

    def __init__(self, outputs: Iterable[str]) -> None:
        self._files: set[str] = set()
        self._folders: set[str] = set()
        for output in outputs:
            self._add(output)

    def claim(self, stem: str, ending: str) -> str:
        """Return ``stem + ending``, changed if it, its sidecar or a folder of it is in use, and take it."""
        output = next(output for output in _variants(stem, ending) if self._is_free(output))
        self._add(output)
        return output

    def _add(self, output: str) -> None:
        self._files |= _claimed(output)
        self._folders |= _folders(output)

    def _is_free(self, output: str) -> bool:
        return not _claimed(output) & (self._files | self._folders) and not _folders(output) & self._files


def _variants(stem: str, ending: str) -> Iterator[str]:
    yield stem + ending
    flat = stem.replace("/", "_")
    yield flat + ending
    for number in itertools.count(2):
        yield f"{flat}_{number}{ending}"


def _claimed(output: str) -> set[str]:
    return {_folded(output), _folded(sidecar_path(Path(output)).as_posix())}


def _folders(output: str) -> set[str]:
    return {_folded(parent.as_posix()) for parent in PurePosixPath(output).parents[:-1]}


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


def _is_named_by_patient(found: FoundVolume) -> bool:
    return found.kind == "dicom" and bool(found.patient) and "sub" not in parse_bids_name(found.name)[0]


def _keys(volumes: Sequence[FoundVolume]) -> list[str]:
    """Return the hash of each input; copies of one series have different hashes, because of their folders."""
    copies = collections.Counter(volume.series_uid for volume in volumes if volume.series_uid)
    return [_hash(volume, is_copy=copies[volume.series_uid or ""] > 1) for volume in volumes]


def _hash(found: FoundVolume, *, is_copy: bool = False) -> str:
    """Return the hash of an input: of its series UID, or else of its path below the searched folder."""
    place = found.relative_path.as_posix()
    parts = [found.kind, found.series_uid, place if is_copy else ""] if found.series_uid else [found.kind, place]
    return hash_json(parts)[:32]
