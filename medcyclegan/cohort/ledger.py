"""The ledger of a cohort: which case failed at which stage, and why. Several processes can update it.

It names cases, so that they can be found, and is readable by its owner only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from medcyclegan.errors import WriteError, one_line
from medcyclegan.provenance import now
from medcyclegan.storage import atomic_write

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
    try:
        lines = (folder / LEDGER).read_text("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    failures = []
    for line in lines:
        with contextlib.suppress(ValueError, TypeError):
            failures.append(Failure(**json.loads(line)))
    return failures


def update_ledger(folder: Path, stage: str, tried: Iterable[str], failed: Mapping[str, str]) -> list[Failure]:
    """Replace the entries of the cases ``tried`` at ``stage`` in the ledger of ``folder``; return all entries.

    ``failed``: case -> reason. The entry of a case that succeeded is removed. A lock serializes concurrent updates.
    """
    looked_at = set(tried)
    with _locked(folder):
        kept = [f for f in read_ledger(folder) if f.stage != stage or f.case not in looked_at]
        fresh = [Failure(stage, case, one_line(reason), now()) for case, reason in failed.items()]
        standing = sorted([*kept, *fresh], key=lambda f: (f.stage, f.case))
        if standing or (folder / LEDGER).exists():
            lines = [json.dumps(dataclasses.asdict(f), ensure_ascii=False) + "\n" for f in standing]
            with atomic_write(folder / LEDGER, mode=0o600) as file:
                file.write("".join(lines).encode())
    return standing


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.fdopen(os.open(folder / ".ledger.lock", os.O_RDWR | os.O_CREAT, 0o600), "r+b")
    except OSError as error:
        raise WriteError(f"{folder} cannot be written: {error.strerror}") from None
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
