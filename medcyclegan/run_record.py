"""``run.json``, the record of a training run, and the current state of the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medcyclegan.errors import ReadError
from medcyclegan.storage import is_locked

__all__ = ["INTERRUPTED", "LOCK_FILE", "RECORD_FILE", "load_run_record", "run_state"]

RECORD_FILE = "run.json"
#: The training process holds a lock on this file; the system releases it when that process ends.
LOCK_FILE = ".lock"
#: State of a run whose process ended without recording it: it was killed, or the machine went down.
INTERRUPTED = "interrupted"


def load_run_record(folder: Path) -> dict[str, Any]:
    """Return the record of the run in ``folder``; its ``state`` may be out of date (:func:`run_state`).

    Raises :class:`~medcyclegan.errors.ReadError` if there is none.
    """
    file = folder / RECORD_FILE
    try:
        record = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ReadError(f"{file} cannot be read ({error}): name the folder of a training run") from None
    if not isinstance(record, dict):
        raise ReadError(f"{file} is not a training run's record: name the folder of a training run")
    return record


def run_state(folder: Path, record: Mapping[str, Any]) -> str:
    """Return the current state of the run in ``folder``, given its record.

    It is ``running``, ``stopped``, ``failed`` or ``finished`` as recorded, but :data:`INTERRUPTED` for a run that is
    recorded as running although no process holds its lock: a killed process cannot record its end.
    """
    state = str(record.get("state", "unknown"))
    return INTERRUPTED if state == "running" and not is_locked(folder / LOCK_FILE) else state
