"""The JSON sidecar of a volume, as in BIDS: its path, and whether it records a translation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medcyclegan.errors import ReadError
from medcyclegan.io.links import is_broken_link

__all__ = ["MADE_BY", "is_made_by_us", "read_sidecar", "read_translation_record", "sidecar_path"]

#: Written into the sidecar of every translation; a sidecar without it is from another program.
MADE_BY = "medcyclegan translate-volume"
#: ManufacturerModelName of a DICOM series that was written here.
MODEL_NAME = "medcyclegan"
#: Sidecars of other programs may contain anything; larger ones are not read.
_LARGEST = 1 << 20


def sidecar_path(volume: Path) -> Path:
    """Return the JSON file that belongs to a volume: ``x.nii.gz`` has ``x.json``, a DICOM folder ``x`` too."""
    volume = volume if volume.name else volume.absolute()  # the current folder
    name = volume.name
    for ending in (".nii.gz", volume.suffix):
        if ending and name.lower().endswith(ending.lower()):
            name = name[: -len(ending)]
            break
    return volume.parent / f"{name}.json"


def read_sidecar(volume: Path) -> dict[str, Any] | None:
    """Return the content of the JSON file next to ``volume``: empty without one, None if it cannot be read."""
    file = sidecar_path(volume)
    try:
        if not file.is_file() or file.stat().st_size > _LARGEST:
            return None if is_broken_link(file) else {}
        record = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else {}


def is_made_by_us(volume: Path) -> bool:
    """Whether the JSON file next to ``volume`` says that this program wrote the volume.

    Either it was written with the volume, or dcm2niix wrote it from a series that this program wrote.
    """
    record = read_sidecar(volume) or {}
    return record.get("made_by") == MADE_BY or record.get("ManufacturersModelName") == MODEL_NAME


def read_translation_record(volume: Path) -> dict[str, Any]:
    """Return the sidecar that translate-volume wrote with ``volume``; empty if another program wrote the volume.

    Raises :class:`~medcyclegan.errors.ReadError` for a file that is not JSON.
    """
    file = sidecar_path(volume)
    try:
        record = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ReadError(f"{file} cannot be read ({error})", remedy="repair or remove it") from None
    return record if isinstance(record, dict) and record.get("made_by") == MADE_BY else {}
