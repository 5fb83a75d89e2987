"""Find the training runs and the other stores that contain a volume of a slice store, as far as their records tell."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from medcyclegan.errors import ReadError, StoreError
from medcyclegan.manifest import MANIFEST, SliceRow, load_manifest
from medcyclegan.provenance import hash_json
from medcyclegan.run_record import RECORD_FILE, load_run_record, run_state
from medcyclegan.slicing.key_file import CaseKey

__all__ = ["RunUse", "find_runs", "find_stores", "training_fingerprint"]

log = logging.getLogger(__name__)

#: How a run used a volume. ``unknown``: its store has changed since, and its record does not name the volumes.
Use = Literal["trained", "validated", "unknown"]
#: How deep runs and stores are searched below a folder, and in how many folders at most.
_DEPTH, _MOST_FOLDERS = 3, 10_000
#: Folders that hold no runs and may be large.
_PASSED_OVER = {"volumes", "panels", "checkpoints", "tensorboard", "site-packages", "node_modules"}


@dataclasses.dataclass(frozen=True)
class RunUse:
    """A training run that used a volume: its folder, how, and its state."""

    run: Path
    use: Use
    state: str

    @property
    def models(self) -> list[Path]:
        """The model folders of the run."""
        return [path for path in (self.run / "model", self.run / "model-last") if path.is_dir()]


def training_fingerprint(domains: Iterable[Iterable[SliceRow]]) -> str:
    """Return a hash of the training rows of each domain; it changes if a slice, its height or its scaling changes."""
    ordered = [sorted(rows, key=lambda row: (row.content, row.case)) for rows in domains]
    return hash_json([row.to_json() for rows in ordered for row in rows])


def find_runs(store: Path, keys: Collection[CaseKey], folders: Sequence[Path] = ()) -> list[RunUse]:
    """Return the runs that used any of the volumes ``keys`` of ``store``, sorted by folder.

    Runs are searched next to the store and below ``folders``. Newer runs record the hashes of their volumes; of others
    the store is compared with the fingerprint of the run's training data.
    """
    uses = []
    for folder in _search(store, folders, RECORD_FILE):
        try:
            record = load_run_record(folder)
        except ReadError:
            continue
        use = _use_of(folder, record, store, set(keys))
        if use is not None:
            uses.append(RunUse(folder, use, run_state(folder, record)))
    return uses


def find_stores(store: Path, keys: Collection[CaseKey], folders: Sequence[Path] = ()) -> list[Path]:
    """Return the other stores, such as folds, that hold any of the volumes ``keys``; they are searched as runs are."""
    found = []
    for folder in _search(store, folders, MANIFEST):
        if folder.resolve() != store.resolve() and {(r.domain, r.case) for r in _rows(folder)} & set(keys):
            found.append(folder)
    return found


def _search(store: Path, folders: Sequence[Path], name: str) -> list[Path]:
    """Return the folders that contain a file ``name``, next to the store and below ``folders``."""
    found: dict[Path, Path] = {}
    for start in (store.absolute().parent, *folders):
        for count, folder in enumerate(_walk(start, _DEPTH)):
            if count == _MOST_FOLDERS:
                log.warning(
                    "%s: only the first %d folders were searched for runs: name theirs with --runs", start, count
                )
                break
            if (folder / name).is_file():
                found.setdefault(folder.resolve(), Path(os.path.relpath(folder)))
    return sorted(found.values())


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    yield folder
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name) if depth else []
    except OSError:  # not readable
        return
    for entry in entries:
        if not entry.name.startswith(".") and entry.name not in _PASSED_OVER and entry.is_dir():
            yield from _walk(Path(entry.path), depth - 1)


def _use_of(run: Path, record: Mapping[str, Any], store: Path, keys: set[CaseKey]) -> Use | None:
    """Return how a run used the volumes ``keys``; None if it did not, or if it is not a run."""
    domains, slices, fingerprint = (record.get(name) for name in ("domains", "slices", "fingerprint"))
    if not isinstance(domains, list) or not isinstance(slices, str) or not isinstance(fingerprint, str):
        return None
    recorded = record.get("cases")
    if isinstance(recorded, dict):
        for split, use in _USES.items():
            cases = recorded.get(split)
            if isinstance(cases, dict) and any(case in _listed(cases.get(domain)) for domain, case in keys):
                return use
        return None
    used = Path(os.path.abspath(run / slices))
    rows = _rows(used)
    training = [[row for row in rows if row.domain == name and row.split == "train"] for name in domains]
    if training_fingerprint(training) == fingerprint:
        splits = {row.split for row in rows if (row.domain, row.case) in keys and row.domain in domains}
        return next((use for split, use in _USES.items() if split in splits), None)
    is_same_store = os.path.realpath(used) == os.path.realpath(store)
    return "unknown" if is_same_store and {domain for domain, _ in keys} & set(domains) else None


_USES: Mapping[str, Use] = {"train": "trained", "validation": "validated"}


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _rows(store: Path) -> list[SliceRow]:
    try:
        return load_manifest(store)
    except StoreError:
        return []
