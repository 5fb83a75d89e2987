"""``run.json``, the record of a training run, and the state that the run is in now."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medcyclegan.errors import ReadError

__all__ = ["INTERRUPTED", "LOCK_FILE", "RECORD_FILE", "load_run_record", "run_state"]

RECORD_FILE = "run.json"
#: The file that the process which trains a run holds locked; the system releases it when that process ends.
LOCK_FILE = ".lock"
#: The state of a run whose process has ended without recording how: it was killed, or its machine went down.
INTERRUPTED = "interrupted"


def load_run_record(folder: Path) -> dict[str, Any]:
    """Return the record of the run in ``folder``; its ``state`` may be out of date (:func:`run_state`).

    Raises :class:`~medcyclegan.errors.ReadError` where there is none.
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
    """Return the state that the run in ``folder`` is in now, given its record.

    ``running``, ``stopped``, ``failed`` or ``finished`` as recorded, but :data:`INTERRUPTED` for a run that is recorded
    as running and that no process holds: one that is killed cannot record it.
    """
    state = str(record.get("state", "unknown"))
    return INTERRUPTED if state == "running" and not _is_held(folder / LOCK_FILE) else state


def _is_held(lock: Path) -> bool:
    """Whether another open file holds ``lock``; where that cannot be found out, true."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:  # never trained here, or copied without it
        return False
    except OSError:
        return True
    return False
