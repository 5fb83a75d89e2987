"""Identify the patient of each volume by split file, DICOM PatientID or BIDS ``sub-``, else guess it from its name."""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence

from medcyclegan.errors import ConfigError
from medcyclegan.manifest import PatientSource, Split
from medcyclegan.slicing.domains import Member
from medcyclegan.slicing.patients.guess import Key, Named, guess_patients
from medcyclegan.slicing.patients.names import split_words

__all__ = ["bids_subject", "Identity", "case_names", "identify_patients"]

_BIDS_SUBJECT = re.compile(r"(?:^|[/_])sub-([A-Za-z0-9]+)")


@dataclasses.dataclass(frozen=True)
class Identity:
    """The patient of a volume, its source, and the split if a split file or a folder determines it."""

    patient: str
    patient_source: PatientSource
    split: Split | None = None


def identify_patients(members: Sequence[Member], given: Mapping[str, tuple[str, Split]]) -> list[Identity]:
    """Return the identity of each volume; it depends on names and headers of all volumes, not on their order.

    ``given``: patient and split by case, from a split file. Raises :class:`~medcyclegan.errors.ConfigError` if
    the file assigns volumes of one guessed patient to different patients and does not list another of its volumes.
    """
    found: dict[int, Identity] = {}
    guessed: list[int] = []
    certain: dict[Key, str] = {}
    sets: dict[str, list[int]] = collections.defaultdict(list)
    for place, member in enumerate(members):
        identity = _certain_identity(member, given)
        if identity is not None:
            found[place] = identity
            _note_words(certain, identity)
        if identity is None and member.split is not None:
            sets[member.folder].append(place)
        elif identity is None or identity.patient_source == "split file":
            guessed.append(place)
    for folder, places in sets.items():
        # Image sets number their files separately in each folder: 1.jpg of trainA and of testA are two patients.
        for place, guess in zip(places, guess_patients([_named(members[n]) for n in places], {}), strict=True):
            found[place] = Identity(f"{folder}/{guess.patient}", "image set", members[place].split)
    guesses = guess_patients([_named(members[place]) for place in guessed], certain)
    listed: dict[str, dict[str, Member]] = collections.defaultdict(dict)
    for place, guess in zip(guessed, guesses, strict=True):
        if place in found:
            listed[guess.patient].setdefault(found[place].patient, members[place])
    for place, guess in zip(guessed, guesses, strict=True):
        if place not in found:
            patient = _of_split_file(members[place], guess.patient, listed.get(guess.patient, {}))
            found[place] = Identity(patient, guess.by)
    return [found[place] for place in range(len(members))]


def case_names(member: Member) -> Iterator[str]:
    """Yield the names that a split file may use for a volume; the first is unique."""
    name = member.found.name
    yield f"{member.folder}/{name}"
    yield f"{member.domain}/{name}"
    yield name
    yield member.found.path.name
    yield name.rpartition("/")[2]


def _certain_identity(member: Member, given: Mapping[str, tuple[str, Split]]) -> Identity | None:
    for name in case_names(member):
        if name in given:
            return Identity(given[name][0], "split file", given[name][1])
    if member.split is not None:
        return None
    if member.found.patient:
        return Identity(member.found.patient, "PatientID")
    subject = bids_subject(member.found.name)
    return Identity(subject, "BIDS") if subject else None


def bids_subject(name: str) -> str | None:
    """Return the subject that a BIDS name states, such as ``sub-01``; None if ``name`` states none."""
    found = _BIDS_SUBJECT.search(name)
    return f"sub-{found[1]}" if found else None


def _named(member: Member) -> Named:
    return Named(member.domain, member.found.name, member.found.kind == "image")


def _note_words(certain: dict[Key, str], identity: Identity) -> None:
    """Add the words with which names of this patient may begin."""
    texts = [identity.patient]
    if identity.patient_source == "BIDS":
        texts += [identity.patient.replace("-", ""), identity.patient.removeprefix("sub-")]
    for text in texts:
        key = tuple(word.key for word in split_words(text))
        if key:
            certain[key] = min(certain.get(key, identity.patient), identity.patient)


def _of_split_file(member: Member, guess: str, listed: Mapping[str, Member]) -> str:
    """Return the patient that the split file gives for other volumes of the same guess, or else the guess."""
    if len(listed) > 1:
        first, second = sorted(other.found.name for other in listed.values())[:2]
        raise ConfigError(
            f"the split file names two patients for {first} and {second}, whose names look like those of one patient, "
            f"and does not list {member.found.name}: add it to the file"
        )
    return next(iter(listed), guess)
