"""``.names.csv``, the private key file of a slice store: which number and hash is which volume.

Only its owner can read it. It is never copied: folds, runs, models, exports and pages do not contain it.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from medcyclegan.errors import StoreError
from medcyclegan.manifest import KEY_FILE
from medcyclegan.slicing.store import SliceStore
from medcyclegan.storage import atomic_write

__all__ = ["CaseKey", "NamedVolume", "Names", "forget_volumes", "load_names", "name_volumes"]

#: A case: its domain and its keyed hash.
CaseKey = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class NamedVolume:
    """A volume of a store: its number, its keyed hash (``case``), and where it was found.

    ``path``: its file, or the folder of its DICOM series; empty if it was sliced by a version without the key file.
    The number never changes, and the number of a removed volume is not used again.
    """

    number: int
    domain: str
    case: str
    path: str = ""
    series_uid: str = ""


Names = Mapping[CaseKey, NamedVolume]


def load_names(folder: Path) -> dict[CaseKey, NamedVolume]:
    """Return the named volumes of the store in ``folder``, by domain and case.

    Empty if there is no key file, or if it belongs to another user. Raises
    :class:`~medcyclegan.errors.StoreError` for a damaged file.
    """
    file = folder / KEY_FILE
    if file.exists() and not os.access(file, os.R_OK):
        return {}
    return {(volume.domain, volume.case): volume for volume in _read(file) if volume.case}


def name_volumes(
    store: SliceStore,
    found: Mapping[CaseKey, tuple[Path, str | None]],
    others: Iterable[CaseKey],
    *,
    forget: Collection[CaseKey] = (),
) -> dict[CaseKey, NamedVolume]:
    """Give a number to each of the volumes ``found`` (path and SeriesInstanceUID) and of the ``others`` in the store.

    Known volumes keep their number. ``forget``: volumes that are no longer in the store. Returns all named volumes.
    """
    with store.lock("manifest", wait=True):
        before = _read(store.folder / KEY_FILE)
        known = {(volume.domain, volume.case): volume for volume in before if volume.case}
        number = max((volume.number for volume in before), default=0)
        for key in (*found, *sorted(set(others) - found.keys())):
            path, uid = found.get(key, (None, None))
            if key not in known:
                number += 1
                known[key] = NamedVolume(number, *key)
            if path is not None:
                place = os.path.abspath(path)
                known[key] = dataclasses.replace(known[key], path=place, series_uid=uid or "")
        for key in forget:
            known.pop(key, None)
        _write(store.folder / KEY_FILE, known.values(), before, number)
    return known


def forget_volumes(store: SliceStore, keys: Collection[CaseKey]) -> None:
    """Remove the lines of the volumes ``keys``; a store without key file gets none."""
    with store.lock("manifest", wait=True):
        before = _read(store.folder / KEY_FILE)
        kept = [volume for volume in before if (volume.domain, volume.case) not in keys]
        if len(kept) < len(before):
            _write(store.folder / KEY_FILE, kept, before, max(volume.number for volume in before))


def _read(file: Path) -> list[NamedVolume]:
    try:
        with file.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            reader = csv.DictReader(stream)
            if reader.fieldnames != [field.name for field in dataclasses.fields(NamedVolume)]:
                raise ValueError("its first line does not name the columns")
            volumes = [_volume_of(line) for line in reader]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise StoreError(f"{file} cannot be read ({error}): remove it, and run slice-volumes again") from None
    if len({volume.number for volume in volumes}) < len(volumes):
        raise StoreError(f"{file} has a number twice: remove it, and run slice-volumes again")
    return volumes


def _volume_of(fields: Mapping[str, Any]) -> NamedVolume:
    return NamedVolume(**{**fields, "number": int(fields["number"])})


def _write(file: Path, volumes: Iterable[NamedVolume], before: list[NamedVolume], highest: int) -> None:
    rows = sorted((volume for volume in volumes if volume.case), key=lambda volume: volume.number)
    if highest > max((volume.number for volume in rows), default=0):
        rows.append(NamedVolume(highest, "", ""))  # of a removed volume: the number is not used again
    if rows == before:
        return
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in dataclasses.fields(NamedVolume)])
    writer.writerows(dataclasses.astuple(row) for row in rows)
    with atomic_write(file, mode=0o600) as stream:
        stream.write(text.getvalue().encode("utf-8", "surrogateescape"))
