"""Guess patients from the names of volumes, by comparing all names to see which parts vary.

A name consists of a leading part and a rest. Names with the same leading part belong to one patient, unless the rest
numbers the patients. The other names show which is the case: if many leading parts (``P01`` to ``P20``) have a few
rests each (``1`` and ``2``), the rests are visits; if a few leading parts (``HGJ``, ``CHUM``) have many rests each, the
rests are the patients. If the same many rests occur with several leading parts that look like patients, the names are
ambiguous, and all of these volumes count as one patient.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Literal

from medcyclegan.slicing.patients.names import (
    Reading,
    Word,
    find_vocabulary,
    is_label,
    is_visit_like,
    read_name,
    split_words,
)

__all__ = ["Guess", "Key", "Named", "guess_patients"]

#: The words of a name that identify a patient, in lower case and without leading zeros.
Key = tuple[str, ...]
#: The rests that follow each leading part.
Family = Mapping[Key, set[Key]]
Source = Literal["folder", "name", "doubtful"]
Verdict = Literal["visits", "visits first", "doubtful", "patients"]

#: Leading parts with at most this many rests on average, and at most this many each, are patients with several volumes.
_FEW, _MOST = 3, 12
#: The only folder of a domain is not a patient if it contains at least this many folders or names.
_CONTAINED = 5
_DOUBTFUL = "doubtful:"


@dataclasses.dataclass(frozen=True)
class Named:
    """Domain and name (``folder/stem``) of a volume, and whether it is a 2-D picture."""

    domain: str
    name: str
    picture: bool = False


@dataclasses.dataclass(frozen=True)
class Guess:
    """A patient and the basis of the guess; ``doubtful``: volumes that may be of one patient count as one."""

    patient: str
    by: Source


def guess_patients(named: Sequence[Named], certain: Mapping[Key, str]) -> list[Guess]:
    """Guess the patient of each volume by comparing all names; their order does not matter.

    ``certain``: known patients, by the words of their identity; names that begin with these words are theirs.
    """
    vocabulary = find_vocabulary((volume.domain, volume.name) for volume in named)
    readings = [read_name(volume.name, vocabulary) for volume in named]
    places = _read_folders(named, readings)
    known = [_find_certain(_key(words), certain) for words, _ in places]
    unknown = [(p, n) for p, n, patient in zip(places, named, known, strict=True) if patient is None]
    keys = {_key(words) for (words, _), _ in unknown}
    pictures = keys - {_key(words) for (words, _), volume in unknown if not volume.picture}
    settled = _compare_names(keys, pictures)
    labels: dict[Key, str] = {}
    for (words, _), _ in unknown:
        key = settled[_key(words)]
        text = _text(words, key)
        labels[key] = min(labels.get(key, text), text)
    guesses = []
    for (words, by), patient in zip(places, known, strict=True):
        if patient is not None:
            guesses.append(Guess(patient, by))
            continue
        key = settled[_key(words)]
        guesses.append(Guess(labels[key], "doubtful" if key[0].startswith(_DOUBTFUL) else by))
    return guesses


def _read_folders(named: Sequence[Named], readings: Sequence[Reading]) -> list[tuple[tuple[Word, ...], Source]]:
    """Return the words that identify the patient of each volume: of its first folder, else of its stem.

    Folders that all volumes share, and folders of visits, are skipped.
    """
    folders: list[tuple[tuple[Word, ...], ...]] = [()] * len(named)
    for domain in {volume.domain for volume in named}:
        own = [n for n, volume in enumerate(named) if volume.domain == domain]
        passed = _count_containers([readings[n] for n in own], pictures=all(named[n].picture for n in own))
        for n in own:
            folders[n] = readings[n].folders[passed:]
    family: dict[Key, set[Key]] = collections.defaultdict(set)
    below = [tuple(itertools.chain(*path[1:], r.stem)) for path, r in zip(folders, readings, strict=True)]
    for path, rest, volume in zip(folders, below, named, strict=True):
        if rest and not volume.picture:
            family[_key(path[0] if path else ())].add(_key(rest))
    in_folders = set().union(*(rests for head, rests in family.items() if head))
    verdict = _judge_folders({head: rests & in_folders for head, rests in family.items() if rests & in_folders})
    places: list[tuple[tuple[Word, ...], Source]] = []
    for volume, reading, path, rest in zip(named, readings, folders, below, strict=True):
        by: Source = "name"
        if not path and not (verdict == "doubtful" and _key(rest) in in_folders):
            words = reading.stem or split_words(volume.name) or (Word("", volume.name),)
        elif verdict == "doubtful" and rest and not volume.picture:
            words = (Word(f"{_DOUBTFUL}folders", ""),)
        elif verdict == "visits first" and rest and not volume.picture:
            words = rest
        else:
            words, by = path[0], "folder"
        places.append(((*reading.groups, *words), by))
    return places


def _count_containers(readings: Sequence[Reading], *, pictures: bool) -> int:
    """Return the number of folder levels that all volumes of a domain share and that are not a patient."""
    for depth in itertools.count():
        paths = [reading.folders[depth:] for reading in readings]
        if not all(paths) or len({_key(path[0]) for path in paths}) > 1:
            return depth
        folders = {_key(path[1]) for path in paths if len(path) > 1}
        stems = {_key(r.stem) for r, path in zip(readings, paths, strict=True) if len(path) == 1}
        holds_patients = not pictures and not _has_digits(_key(paths[0][0])) and not all(map(_is_number, stems))
        if len(folders) < _CONTAINED and not (len(stems) >= _CONTAINED and holds_patients):
            return depth
    raise AssertionError  # paths end


def _judge_folders(family: Family) -> Verdict:
    """Decide whether folders are patients, or visits with a volume of each patient; some volumes may have no folder."""
    counts = _Counts(family)
    if counts.heads < 2 or counts.mean <= _FEW or not counts.crossed or counts.heads >= counts.rests:
        return "patients"
    rests = set().union(*family.values())
    if counts.heads >= _CONTAINED and not all(map(_may_be_visit, family)):
        return "patients"
    return "doubtful" if _look_like_visits(rests) or all(map(_is_number, rests)) else "visits first"


def _compare_names(keys: set[Key], pictures: set[Key]) -> dict[Key, Key]:
    """Map the words of each name to those that identify its patient, equal for all volumes of a patient."""
    settled = {key: key for key in keys}
    longest = max(map(len, keys), default=0)
    # Leading visits are removed first, then trailing ones from the end of the names.
    for cut, wanted in [
        *((cut, ("visits first",)) for cut in range(1, longest)),
        *((cut, ("visits",)) for cut in range(longest - 1, 0, -1)),
        *((cut, ("doubtful",)) for cut in range(longest - 1, 0, -1)),
    ]:
        changed = _change(set(settled.values()), pictures, cut, wanted[0])
        settled = {key: changed.get(now, now) for key, now in settled.items()}
    return settled


def _change(keys: set[Key], pictures: set[Key], cut: int, verdict: str) -> dict[Key, Key]:
    """Return the new words of names for which splitting after ``cut`` words gives ``verdict``."""
    families: dict[str, dict[Key, set[Key]]] = collections.defaultdict(lambda: collections.defaultdict(set))
    for key in keys:
        if len(key) > cut and not all(map(is_label, key[:cut])):
            families[_pattern(key[:cut])][key[:cut]].add(key[cut:])
    changed: dict[Key, Key] = {}
    for pattern, family in families.items():
        members = {head + rest for head, rests in family.items() for rest in rests}
        if _judge_names(family, keys, pictures=members <= pictures) != verdict:
            continue
        for member in members:
            left = {"visits": member[:cut], "visits first": member[cut:]}
            changed[member] = left.get(verdict, (_DOUBTFUL + pattern,))
    return changed


def _judge_names(family: Family, whole: set[Key], *, pictures: bool) -> Verdict:
    """Decide what the rests after leading parts of one form are; ``whole``: all names."""
    rests = {rest for own in family.values() for rest in own}
    led = {**family, (): rests & whole} if rests & whole else family
    counts, visit_like = _Counts(led), _look_like_visits(rests)
    if counts.heads > 1 and counts.crossed and counts.heads < counts.rests and all(map(_may_be_visit, led)):
        return "doubtful" if visit_like and () not in led else "visits first"
    numbered = all(map(_has_digits, family))
    counts = _Counts({head: own | ({()} if head in whole else set()) for head, own in family.items()})
    if counts.heads == 1:
        explained = visit_like or not any(map(_has_digits, rests))
        return "visits" if numbered and explained and 1 < counts.largest <= _FEW else "patients"
    if counts.largest == 1:
        return "patients"
    few = counts.mean <= _FEW and counts.largest <= _MOST
    visits = numbered and visit_like and (counts.heads >= _CONTAINED or not counts.crossed)
    if few or pictures or visits or (counts.crossed and counts.rests < counts.heads):
        return "visits"
    return "doubtful" if counts.crossed and (numbered or visit_like) else "patients"


class _Counts:
    """Numbers of leading parts and rests, and whether most rests occur with several leading parts."""

    def __init__(self, family: Family) -> None:
        times = collections.Counter(rest for rests in family.values() for rest in rests)
        self.heads, self.rests = len(family), len(times)
        self.largest = max(map(len, family.values()), default=0)
        self.mean = sum(times.values()) / max(1, self.heads)
        self.crossed = 2 * sum(count > 1 for count in times.values()) >= max(1, self.rests)


def _find_certain(key: Key, certain: Mapping[Key, str]) -> str | None:
    """Return the known patient whose identity is the longest one with which the name begins."""
    return next((certain[key[:n]] for n in range(len(key), 0, -1) if key[:n] in certain), None)


def _text(words: Sequence[Word], key: Key) -> str:
    """Return the words of a patient as written in one of its names."""
    if key[0].startswith(_DOUBTFUL):
        return key[0]
    text, wanted = "", list(key)
    for word in words:
        if not wanted:
            break
        if word.key == wanted[0]:
            text += ("" if word.glued or not text else "_") + word.text
            wanted.pop(0)
        elif text:
            text, wanted = "", list(key)
    return text or "_".join(key)


def _key(words: Sequence[Word]) -> Key:
    return tuple(word.key for word in words)


def _pattern(key: Key) -> str:
    """Return the form of words: ``P01`` and ``3fa9`` have the same form, as do ``anna`` and ``berta``."""
    return " ".join("#" if word.isdecimal() else "a#" if _has_digits((word,)) else "a" for word in key)


def _has_digits(key: Key) -> bool:
    return any(character.isdecimal() for word in key for character in word)


def _is_number(key: Key) -> bool:
    return all(word.isdecimal() for word in key)


def _look_like_visits(rests: set[Key]) -> bool:
    """Return whether all rests may be visits of the patients that the leading parts name: ``M00`` to ``M96``."""
    return all(is_visit_like(rest[0]) for rest in rests)


def _may_be_visit(key: Key) -> bool:
    """Return whether a leading part may be a visit or a contrast rather than a patient."""
    return not _has_digits(key) or _is_number(key) or all(map(is_visit_like, key))
