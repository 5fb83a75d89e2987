"""The record of a study: the folders of its two domains, so that later stages need only the study's folder."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from medcyclegan.cohort.bids import parse_bids_name
from medcyclegan.errors import ReadError, UsageError
from medcyclegan.io import FoundVolume, ReadOptions, find_volumes
from medcyclegan.storage import atomic_write

__all__ = ["DomainTree", "Study", "find_study_volumes", "load_study", "parse_selection", "save_study", "select_volumes"]

_FILE = "study.json"
#: Folders of a BIDS dataset that contain no raw images.
_NOT_RAW = ("derivatives/", "sourcedata/", "code/", "phenotype/", "stimuli/")


@dataclasses.dataclass(frozen=True)
class DomainTree:
    """The volumes of a domain: a folder and, optionally, BIDS entities (and a suffix) that select among them."""

    folder: Path
    select: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Study:
    """A study: its domains, and the slice store whose key names its cases (for a fold, that of the whole study)."""

    domains: Mapping[str, DomainTree]
    keyed_store: Path


def select_volumes(folder: Path, select: Mapping[str, str] | Sequence[str] = ()) -> list[FoundVolume]:
    """Return the volumes in ``folder`` whose BIDS names match all of ``select``, such as ``["suffix=T1w", "ses=1"]``.

    Without ``select``, all volumes are returned. Raises :class:`~medcyclegan.errors.ReadError` if there are none.
    """
    wanted = select if isinstance(select, Mapping) else parse_selection(select)
    found = find_volumes(folder, ReadOptions())
    if wanted:
        found = [volume for volume in found if _has(volume.name, wanted)]
    if not found:
        chosen = " with " + ", ".join(f"{key}={value}" for key, value in wanted.items()) if wanted else ""
        raise ReadError(f"{folder}: no volume{chosen} found: check the folder and the filter")
    return found


def parse_selection(words: Sequence[str]) -> dict[str, str]:
    """Return ``["suffix=T1w", "ses=1"]`` as a mapping; raises UsageError for other strings."""
    wanted = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key or not value:
            raise UsageError(f"{word!r}: a filter is an entity and its value, such as suffix=T1w or ses=1")
        wanted[key] = value
    return wanted


def save_study(folder: Path, study: Study) -> None:
    """Write ``study.json`` to ``folder``, with paths relative to it."""
    record = {
        "domains": {
            name: {"folder": os.path.relpath(tree.folder.resolve(), folder.resolve()), "select": dict(tree.select)}
            for name, tree in study.domains.items()
        },
        "keyed_store": os.path.relpath(study.keyed_store.resolve(), folder.resolve()),
    }
    with atomic_write(folder / _FILE) as file:
        file.write((json.dumps(record, indent=2) + "\n").encode())


def load_study(folder: Path) -> Study:
    """Read the file that :func:`save_study` wrote; raises :class:`~medcyclegan.errors.ReadError` if there is none."""
    file = folder / _FILE
    try:
        record = json.loads(file.read_text("utf-8"))
        domains = {
            str(name): DomainTree(folder / tree["folder"], {str(k): str(v) for k, v in tree["select"].items()})
            for name, tree in record["domains"].items()
        }
        return Study(domains, folder / record["keyed_store"])
    except FileNotFoundError:
        raise ReadError(
            f"{folder}: contains no study: run pipelines/prepare_cohort.py first, or choose its folder"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReadError(
            f"{file} is not the record of a study ({error!r}): run pipelines/prepare_cohort.py again"
        ) from None


def find_study_volumes(study: Study) -> dict[str, list[FoundVolume]]:
    """Return the volumes of each domain; see :func:`select_volumes`."""
    return {name: select_volumes(tree.folder, tree.select) for name, tree in study.domains.items()}


def _has(name: str, wanted: Mapping[str, str]) -> bool:
    entities, suffix = parse_bids_name(name)
    has = {**entities, "suffix": suffix}
    return not name.startswith(_NOT_RAW) and all(has.get(key) == value for key, value in wanted.items())
