"""The ledger of a cohort: which case failed at which stage, and why. Several processes can update it.

It names cases, so that they can be found, and is readable by its owner only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

from medcyclegan.errors import one_line
from medcyclegan.provenance import now
from medcyclegan.records import read_records, save_records
from medcyclegan.storage import exclusive_lock

__all__ = ["LEDGER", "Failure", "read_ledger", "update_ledger"]

LEDGER = "ledger.jsonl"


@dataclasses.dataclass(frozen=True)
class Failure:
    """A failed case: the stage, the path of the case below its folder, the reason in one line, the time in UTC."""

    stage: str
    case: str
    reason: str
    time: str


def read_ledger(folder: Path) -> list[Failure]:
    """Return the failures in the ledger of a cohort's ``folder``; an empty list if there is no ledger."""
    return read_records(folder / LEDGER, lambda fields: Failure(**fields))


def update_ledger(folder: Path, stage: str, tried: Iterable[str], failed: Mapping[str, str]) -> list[Failure]:
    """Replace the entries of the cases ``tried`` at ``stage`` in the ledger of ``folder``; return all entries.

    ``failed``: case -> reason. The entry of a case that succeeded is removed. A lock serializes concurrent updates.
    """
    cases = set(tried)
    with exclusive_lock(folder / ".ledger.lock", mode=0o600):
        kept = [f for f in read_ledger(folder) if f.stage != stage or f.case not in cases]
        fresh = [Failure(stage, case, one_line(reason), now()) for case, reason in failed.items()]
        entries = sorted([*kept, *fresh], key=lambda f: (f.stage, f.case))
        save_records(folder / LEDGER, entries, mode=0o600)
    return entries
