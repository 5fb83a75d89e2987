"""Remove volumes from a slice store, completely: a removal that was interrupted is finished by the next command."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from medcyclegan.errors import StoreError, WriteError
from medcyclegan.manifest import DOMAIN_NAME, MANIFEST, SliceRow, load_manifest
from medcyclegan.records import read_records, save_records
from medcyclegan.slicing.key_file import CaseKey, forget_volumes, load_names
from medcyclegan.slicing.sheets import save_contact_sheets
from medcyclegan.slicing.store import SliceStore
from medcyclegan.storage import atomic_write

__all__ = ["finish_removal", "remove_volumes"]

log = logging.getLogger(__name__)

#: The volumes that are being removed; it is the first file that a removal writes, and the last one that it removes.
_PENDING = ".removing.jsonl"


@dataclasses.dataclass(frozen=True)
class _Pending:
    domain: str
    case: str


def remove_volumes(store: SliceStore, keys: Collection[CaseKey]) -> None:
    """Remove the volumes ``keys``: their slices, rows, refusals and names, and write the contact sheets anew.

    The manifest never names slices that are not there. Raises :class:`~medcyclegan.errors.StoreError` if volumes are
    being sliced into the store.
    """
    with contextlib.ExitStack() as stack:
        for file in sorted((store.folder / ".locks").glob("shard-*")):
            stack.enter_context(store.lock(file.name))
        stack.enter_context(store.lock("removal", wait=True))
        pending = _pending(store) | set(keys)
        if not pending:
            return
        save_records(store.folder / _PENDING, [_Pending(*key) for key in sorted(pending)])
        _remove(store, pending)


def finish_removal(store: SliceStore) -> None:
    """Finish a removal that was interrupted. The caller holds the lock of a slicing call, or of all of them."""
    with store.lock("removal", wait=True):
        pending = _pending(store)
        if pending:
            log.warning("finishing an interrupted removal of %d volume(s) from %s", len(pending), store.folder)
            _remove(store, pending)


def _pending(store: SliceStore) -> set[CaseKey]:
    return {(item.domain, item.case) for item in read_records(store.folder / _PENDING, _pending_of)}


def _remove(store: SliceStore, keys: set[CaseKey]) -> None:
    def kept(_rows: Sequence[SliceRow]) -> list[SliceRow]:
        # of the published manifest, whose patients and splits must not change
        rows = load_manifest(store.folder) if (store.folder / MANIFEST).exists() else []
        return [row for row in rows if (row.domain, row.case) not in keys]

    rows = store.save_manifest(kept)
    for domain, case in sorted(keys):
        store.remove_case(domain, case)
    store.save_refusals(sorted(keys), [])
    forget_volumes(store, keys)
    save_contact_sheets(store.folder, rows, load_names(store.folder))
    _update_record(store.folder, rows)
    try:
        (store.folder / _PENDING).unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(f"{store.folder / _PENDING} cannot be removed: {error.strerror}") from None


def _update_record(folder: Path, rows: Sequence[SliceRow]) -> None:
    """Update the numbers of volumes and slices in the store's ``run.json``, if it has one."""
    try:
        record = json.loads((folder / "run.json").read_text("utf-8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise StoreError(f"{folder / 'run.json'} cannot be read ({error}): run slice-volumes again") from None
    record |= {"volumes": len(rows), "slices": sum(len(row.slices) for row in rows)}
    with atomic_write(folder / "run.json") as file:
        file.write((json.dumps(record, indent=2) + "\n").encode())


def _pending_of(fields: dict[str, Any]) -> _Pending:
    """Return the volume with these fields; raise ValueError or TypeError if they cannot be those of a volume."""
    item = _Pending(**fields)
    if not DOMAIN_NAME.fullmatch(item.domain) or not item.case.isalnum():
        raise ValueError("not a volume of a slice store")
    return item
