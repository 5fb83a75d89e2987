"""The JSON file beside a volume, as in BIDS: where it lies, and whether it tells of a translation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medcyclegan.errors import ReadError
from medcyclegan.io.links import is_broken_link

__all__ = ["MADE_BY", "is_made_by_us", "read_sidecar", "read_translation_record", "sidecar_path"]

#: Written into every translation's sidecar and read again: one without it is somebody else's file.
MADE_BY = "medcyclegan translate-volume"
#: ManufacturerModelName of a DICOM series that was written here.
MODEL_NAME = "medcyclegan"
#: Other people's sidecars may hold anything; no larger one is read.
_LARGEST = 1 << 20


def sidecar_path(volume: Path) -> Path:
    """Return the JSON file that belongs to a volume: ``x.nii.gz`` has ``x.json``, a DICOM folder ``x`` too."""
    volume = volume if volume.name else volume.absolute()  # the folder that one stands in
    name = volume.name
    for ending in (".nii.gz", volume.suffix):
        if ending and name.lower().endswith(ending.lower()):
            name = name[: -len(ending)]
            break
    return volume.parent / f"{name}.json"


def read_sidecar(volume: Path) -> dict[str, Any] | None:
    """Return what the JSON file beside ``volume`` holds: nothing without one, None for one that cannot be read."""
    file = sidecar_path(volume)
    try:
        if not file.is_file() or file.stat().st_size > _LARGEST:
            return None if is_broken_link(file) else {}
        record = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else {}


def is_made_by_us(volume: Path) -> bool:
    """Whether the JSON file beside ``volume`` says that this program made it.

    Either it was written with the volume, or dcm2niix wrote it of a series that was.
    """
    record = read_sidecar(volume) or {}
    return record.get("made_by") == MADE_BY or record.get("ManufacturersModelName") == MODEL_NAME


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
        raise ReadError(f"{file} cannot be read ({error})", remedy="repair or remove it") from None
    return record if isinstance(record, dict) and record.get("made_by") == MADE_BY else {}
