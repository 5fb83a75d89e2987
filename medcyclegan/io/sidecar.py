"""The JSON file beside a volume, as in BIDS: where it lies, and whether it tells of a translation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medcyclegan.errors import ReadError

__all__ = ["MADE_BY", "read_translation_record", "sidecar_path"]

#: Written into every translation's sidecar and read again: one without it is somebody else's file.
MADE_BY = "medcyclegan translate-volume"


def sidecar_path(volume: Path) -> Path:
    """Return the JSON file that belongs to a volume: ``x.nii.gz`` has ``x.json``, a DICOM folder ``x`` too."""
    volume = volume if volume.name else volume.absolute()  # the folder that one stands in
    name = volume.name
    for ending in (".nii.gz", volume.suffix):
        if ending and name.lower().endswith(ending.lower()):
            name = name[: -len(ending)]
            break
    return volume.parent / f"{name}.json"


def read_translation_record(volume: Path) -> dict[str, Any]:
    """Return what translate-volume wrote beside ``volume``; nothing where it did not make it.

    Raises :class:`~medcyclegan.errors.ReadError` for a file that is no JSON.
    """
    file = sidecar_path(volume)
    try:
        record = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ReadError(f"{file} cannot be read ({error}): repair or remove it") from None
    return record if isinstance(record, dict) and record.get("made_by") == MADE_BY else {}
