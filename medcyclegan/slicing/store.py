"""The slice store on disk: its key, rows and locks; every file is written atomically."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medcyclegan.errors import StoreError, WriteError
from medcyclegan.manifest import DOMAIN_NAME, MANIFEST, SliceRow, row_from_json, rows_to_text, stack_file
from medcyclegan.provenance import keyed_hash
from medcyclegan.records import read_records, save_records
from medcyclegan.storage import atomic_write, check_space, exclusive_lock, is_temporary, remove_leftovers

__all__ = ["KEY", "Refusal", "SliceStore", "load_store", "open_store"]

log = logging.getLogger(__name__)

KEY = ".key"
_ROWS = ".rows"
_LOCKS = ".locks"
_REFUSED = "refused.jsonl"


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A volume that was not sliced: its domain, its keyed hash, and the reason, which contains no name.

    ``origin``: keyed hashes of the folders in which it was found, as in :class:`~medcyclegan.manifest.SliceRow`.
    """

    domain: str
    case: str
    reason: str
    origin: tuple[str, str]


@dataclasses.dataclass(frozen=True)
class SliceStore:
    """A folder of stacks with a row for each; ``key`` turns names into hashes that cannot be guessed."""

    folder: Path
    key: bytes

    def name(self, *parts: str) -> str:
        """Return the hash of ``parts`` in this store, 16 hexadecimal digits."""
        return keyed_hash(self.key, *parts)

    def stack_path(self, domain: str, case: str) -> Path:
        """Return the path of the stack of a case."""
        return self.folder / domain / f"{case}.npy"

    def row(self, domain: str, case: str) -> SliceRow | None:
        """Return the row of a finished case; None if it is not finished or its stack is missing."""
        file = self._row_path(domain, case)
        try:
            row = row_from_json(file.read_text("utf-8"))
            _check_origin(row)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("%s: not a row of a slice store (%s); the case is sliced again", file, error)
            return None
        return row if self.stack_path(domain, case).is_file() else None

    def rows(self) -> list[SliceRow]:
        """Return the rows of all finished cases."""
        found = []
        for file in sorted((self.folder / _ROWS).glob("*.json")):
            domain, _, case = file.stem.rpartition("@")
            row = None if is_temporary(file) else self.row(domain, case)
            if row is not None:
                found.append(row)
        return found

    def save_case(self, row: SliceRow, stack: NDArray[np.floating]) -> None:
        """Write the stack of a case, then its row: a case that has a row is finished."""
        stack_file(self.folder, row)
        check_space(self.stack_path(row.domain, row.case), stack.nbytes, "the next stack of slices")
        with atomic_write(self.stack_path(row.domain, row.case)) as file:
            np.lib.format.write_array(file, stack, allow_pickle=False)
        self.save_row(row)

    def save_row(self, row: SliceRow) -> None:
        """Write a case's row."""
        with atomic_write(self._row_path(row.domain, row.case)) as file:
            file.write(row.to_json().encode())

    def remove_case(self, domain: str, case: str) -> None:
        """Remove the slices of a case, then its row; the manifest contains it until it is written again."""
        for path in (self.stack_path(domain, case), self._row_path(domain, case)):
            if path.parent.resolve().parent != self.folder.resolve():
                raise StoreError(f"{path} leads out of the slice store by a link: remove the link and slice again")
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise WriteError(f"{path} cannot be removed: {error.strerror}") from None

    def save_manifest(self, publish: Callable[[Sequence[SliceRow]], list[SliceRow]]) -> list[SliceRow]:
        """Write the rows, as ``publish`` returns them, to ``manifest.jsonl``; one process at a time.

        If there are no rows, the manifest is removed.
        """
        file = self.folder / MANIFEST
        with self.lock("manifest", wait=True):
            rows = publish(self.rows())
            if rows:
                with atomic_write(file) as stream:
                    stream.write(rows_to_text(rows).encode())
            else:
                file.unlink(missing_ok=True)
        return rows

    def refusals(self) -> list[Refusal]:
        """Return the refusals in ``refused.jsonl``."""
        return read_records(self.folder / _REFUSED, _refusal_of)

    def save_refusals(self, tried: Sequence[tuple[str, str]], refused: Sequence[Refusal]) -> None:
        """Update ``refused.jsonl``: the refusals of the cases ``tried`` are replaced."""
        cases = set(tried)
        with self.lock("manifest", wait=True):
            kept = [r for r in self.refusals() if (r.domain, r.case) not in cases]
            every = sorted([*kept, *refused], key=lambda r: (r.domain, r.case))
            save_records(self.folder / _REFUSED, every)

    def remove_leftovers(self) -> None:
        """Remove incomplete files of killed processes; files that others are writing are kept."""
        for folder in self.folder.iterdir():
            if folder.is_dir() and not folder.is_symlink():
                remove_leftovers(folder)
        remove_leftovers(self.folder)

    @contextlib.contextmanager
    def lock(self, name: str, *, wait: bool = False) -> Iterator[None]:
        """Hold the lock ``name`` of this store; the system releases it when the process ends.

        Raises :class:`~medcyclegan.errors.StoreError` if another process holds it and ``wait`` is not set.
        """
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(exclusive_lock(self.folder / _LOCKS / name, wait=wait))
            except BlockingIOError:
                raise StoreError(
                    f"{self.folder}: another slice-volumes is writing here: wait for it, or choose another --out"
                ) from None
            yield

    def _row_path(self, domain: str, case: str) -> Path:
        return self.folder / _ROWS / f"{domain}@{case}.json"


def open_store(folder: Path) -> SliceStore:
    """Open the slice store in ``folder``, or create one with a new random key (mode 0600).

    Raises :class:`~medcyclegan.errors.StoreError` for a folder that holds something else, or a store
    whose key is damaged.
    """
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder} is a file: name a folder for the slices with --out")
    path = folder / KEY
    if folder.is_dir() and not path.exists() and any(p.name != _LOCKS for p in folder.iterdir()):
        raise StoreError(f"{folder} holds other files and no slice store: name an empty or new folder with --out")
    with SliceStore(folder, b"").lock("key", wait=True):
        if not path.exists():
            with atomic_write(path, mode=0o600) as file:
                file.write(secrets.token_hex(32).encode())
    return SliceStore(folder, _load_key(path))


def load_store(folder: Path) -> SliceStore:
    """Return the slice store in ``folder``, for looking up names; raises StoreError if there is none."""
    if not (folder / KEY).is_file():
        raise StoreError(f"{folder}: no slice store with its key here: name the one that slice-volumes made")
    return SliceStore(folder, _load_key(folder / KEY))


def _load_key(path: Path) -> bytes:
    text = path.read_text("ascii", errors="replace")
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise StoreError(
            f"{path} is damaged: the store's names cannot be continued; remove {path.parent} and slice again"
        )
    return bytes.fromhex(text)


def _refusal_of(fields: dict[str, Any]) -> Refusal:
    """Return the refusal with these fields; raise ValueError or TypeError if one of them is not valid."""
    refusal = Refusal(**fields)
    if not DOMAIN_NAME.fullmatch(refusal.domain) or not re.fullmatch(r"[0-9a-f]{8,64}", refusal.case):
        raise ValueError("not a refusal of a slice store")
    _check_origin(refusal)
    folder, above = refusal.origin
    return dataclasses.replace(refusal, origin=(str(folder), str(above)))


def _check_origin(item: SliceRow | Refusal) -> None:
    """Raise ValueError unless ``origin`` consists of the hashes of a folder and of its parent folder."""
    if len(item.origin) != 2:
        raise ValueError("the origin must be two hashes")
