"""Stages of a study: a stage runs once, and again if its inputs or its configuration change."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medcyclegan.provenance import hash_json, now
from medcyclegan.storage import atomic_write

__all__ = ["run_stage"]

log = logging.getLogger(__name__)


def run_stage(folder: Path, name: str, inputs: Any, action: Callable[[], Path]) -> Path:
    """Return the result of the stage ``name`` of the study in ``folder``; run ``action`` only if it is needed.

    ``inputs``: JSON values on which the result depends. ``action`` returns a path below ``folder``. The stage is
    skipped if ``stages/<name>.json`` records the same inputs and that path exists.
    """
    marker = folder / "stages" / f"{name}.json"
    wanted = hash_json(inputs)
    try:
        record = json.loads(marker.read_text("utf-8"))
        result = folder / record["result"]
        if record["inputs"] == wanted and result.exists():
            log.info("%s: unchanged, keeping %s", name, result)
            return result
    except (OSError, ValueError, KeyError, TypeError):
        log.debug("%s: not done yet", name)
    result = action()
    record = {"inputs": wanted, "result": str(result.resolve().relative_to(folder.resolve())), "ended": now()}
    with atomic_write(marker) as file:
        file.write((json.dumps(record, indent=2) + "\n").encode())
    return result
