"""Stages of a study: each is done once for the same inputs and configuration, and again when these change."""

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
    """Return the result of the stage ``name`` of the study in ``folder``: run ``action``, or find it done.

    ``inputs``: JSON values that say what the result depends on. ``action`` returns a path below ``folder``; the stage
    is done when ``stages/<name>.json`` says so for the same inputs and that path is there.
    """
    marker = folder / "stages" / f"{name}.json"
    wanted = hash_json(inputs)
    try:
        record = json.loads(marker.read_text("utf-8"))
        result = folder / record["result"]
        if record["inputs"] == wanted and result.exists():
            log.info("%s: nothing has changed, %s stands", name, result)
            return result
    except (OSError, ValueError, KeyError, TypeError):
        log.debug("%s: not done yet", name)
    result = action()
    record = {"inputs": wanted, "result": str(result.resolve().relative_to(folder.resolve())), "ended": now()}
    with atomic_write(marker) as file:
        file.write((json.dumps(record, indent=2) + "\n").encode())
    return result
