"""List the volumes of a slice store, and find one by its number or its hash, or those of a patient."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from medcyclegan.errors import StoreError
from medcyclegan.manifest import MANIFEST, SliceRow, load_manifest
from medcyclegan.slicing.key_file import CaseKey, load_names
from medcyclegan.slicing.store import KEY, SliceStore, load_store

__all__ = ["StoredVolume", "find_volume", "list_volumes", "volumes_of_patient"]

_FEWEST_DIGITS = 4


@dataclasses.dataclass(frozen=True)
class StoredVolume:
    """A volume of a slice store.

    ``number``, ``path``, ``series_uid``: from the private key file; None and empty without it. ``row``: its row in the
    manifest; None if it has no slices. ``refused``: why it was refused, if it was.
    """

    domain: str
    case: str
    number: int | None = None
    path: str = ""
    series_uid: str = ""
    row: SliceRow | None = None
    refused: str = ""

    @property
    def key(self) -> CaseKey:
        """The domain and the hash."""
        return self.domain, self.case


def list_volumes(folder: Path) -> list[StoredVolume]:
    """Return the volumes of the store in ``folder``, sliced or refused, in the order of their numbers.

    Raises :class:`~medcyclegan.errors.StoreError` if there is no store.
    """
    if not folder.is_dir() or not ((folder / KEY).is_file() or (folder / MANIFEST).is_file()):
        raise StoreError(f"{folder}: no slice store here: name the folder that slice-volumes made")
    found: dict[CaseKey, StoredVolume] = {}
    for key, named in load_names(folder).items():
        found[key] = StoredVolume(*key, named.number, named.path, named.series_uid)
    for row in load_manifest(folder) if (folder / MANIFEST).is_file() else ():
        key = (row.domain, row.case)
        found[key] = dataclasses.replace(found.get(key, StoredVolume(*key)), row=row)
    for item in SliceStore(folder, b"").refusals():
        key = (item.domain, item.case)
        found[key] = dataclasses.replace(found.get(key, StoredVolume(*key)), refused=item.reason)
    return sorted(found.values(), key=lambda v: (v.number is None, v.number or 0, v.domain, v.case))


def find_volume(volumes: Sequence[StoredVolume], reference: str, folder: Path) -> StoredVolume:
    """Return the volume with the number or the hash ``reference``; the first digits of a hash are enough.

    Raises :class:`~medcyclegan.errors.StoreError` if there is none, or more than one.
    """
    numbered = [volume for volume in volumes if str(volume.number) == reference.strip()]
    by_hash = [] if numbered else _with_prefix(volumes, reference, lambda volume: volume.case)
    found = numbered or by_hash
    if not found:
        hint = ""
        if reference.isdecimal() and all(volume.number is None for volume in volumes):
            hint = (
                "; its volumes have no numbers, because its key file is missing or it is a fold: name the hash, or run "
                "slice-volumes again on the same volumes"
            )
        raise StoreError(f"{folder} has no volume {reference}{hint or ': medcyclegan slices lists its volumes'}")
    if len(found) > 1:
        listed = ", ".join(volume.case for volume in found[:4])
        raise StoreError(f"{folder} has {len(found)} volumes {reference} ({listed}): name more digits of the hash")
    return found[0]


def volumes_of_patient(volumes: Sequence[StoredVolume], reference: str, folder: Path) -> list[StoredVolume]:
    """Return all volumes of a patient, who is named by a PatientID, by a hash, or by one of the patient's volumes.

    Volumes of the same image belong to one patient, as in the manifest. Raises
    :class:`~medcyclegan.errors.StoreError` if there is no such patient, or if ``reference`` can name two.
    """
    patients: dict[str, str] = {}
    if (folder / KEY).is_file():
        store = load_store(folder)
        hashed = store.name("patient", reference)
        cases = {(row.domain, row.case) for row in store.rows() if row.patient == hashed}
        patients |= {v.row.patient: "the PatientID or name" for v in volumes if v.row and v.key in cases}
    by_hash = _with_prefix(volumes, reference, lambda volume: volume.row.patient if volume.row else "")
    patients |= {volume.row.patient: "the patient's hash" for volume in by_hash if volume.row}
    try:
        row = find_volume(volumes, reference, folder).row
    except StoreError:
        if not patients:
            raise
    else:
        if row is not None:
            patients[row.patient] = "a volume's number or hash"
    if not patients:
        raise StoreError(f"{folder}: volume {reference} was refused, so its patient is not known: use --remove")
    if len(patients) > 1:
        meanings = ", ".join(f"{patient} ({meaning})" for patient, meaning in sorted(patients.items()))
        raise StoreError(f"{folder}: {reference} can mean several patients, {meanings}: name the patient's hash")
    patient = next(iter(patients))
    return [volume for volume in volumes if volume.row is not None and volume.row.patient == patient]


def _with_prefix(
    volumes: Sequence[StoredVolume], reference: str, hash_of: Callable[[StoredVolume], str]
) -> list[StoredVolume]:
    """Return the volumes whose hash begins with ``reference``."""
    start = reference.strip().lower()
    if not re.fullmatch(rf"[0-9a-f]{{{_FEWEST_DIGITS},64}}", start):
        return []
    return [volume for volume in volumes if hash_of(volume).startswith(start)]
