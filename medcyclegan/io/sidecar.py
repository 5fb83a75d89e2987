"""The JSON sidecar of a volume, as in BIDS: its path, and the record of a translation that it may contain."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medcyclegan.errors import ReadError, WriteError
from medcyclegan.io.links import is_broken_link
from medcyclegan.storage import atomic_write, check_output, remove_leftovers
from medcyclegan.volume import Derivation

__all__ = [
    "MADE_BY",
    "announced",
    "check_new_translation",
    "derivation_record",
    "is_made_by_us",
    "read_sidecar",
    "read_translation_record",
    "record_bytes",
    "sidecar_path",
]

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


def record_bytes(record: Mapping[str, Any]) -> bytes:
    """Return the content of a sidecar file."""
    return (json.dumps(record, indent=2) + "\n").encode()


def derivation_record(made: Derivation) -> dict[str, Any]:
    """Return the record of a derived volume for its sidecar: the complete one, if the derivation has it."""
    if made.record is not None:
        return dict(made.record)
    return {
        "made_by": MADE_BY,
        "synthetic": True,
        "intended_use": "research only; not a medical device",
        "versions": {"medcyclegan": made.version},
        "model": made.model_sha256,
        "from": {"domain": made.source_domain, "modality": made.source_modality},
        "to": {"domain": made.target_domain},
        "settings": list(made.settings),
        "quality": None,
        "seconds": {},
    }


@contextlib.contextmanager
def announced(out: Path, record: Mapping[str, Any]) -> Iterator[None]:
    """Put the sidecar ``record`` of ``out`` in place while the output is written.

    A new output gets its sidecar first, so that no output is ever without one: a process that is killed in between
    leaves only the sidecar, and the same command can be repeated. If an output is replaced, its sidecar is replaced
    after it, so that a failure leaves both unchanged.
    """
    sidecar = sidecar_path(out)
    if os.path.lexists(out):
        with atomic_write(sidecar) as file:
            file.write(record_bytes(record))
            file.flush()
            yield
        return
    fresh = not os.path.lexists(sidecar)
    with atomic_write(sidecar) as file:
        file.write(record_bytes(record))
    try:
        yield
    except BaseException:
        if fresh and not os.path.lexists(out):
            sidecar.unlink(missing_ok=True)
        raise


def check_new_translation(out: Path, *, overwrite: bool) -> None:
    """Refuse a translation ``out`` if it or its sidecar exists (unless ``overwrite``) or cannot be written.

    A sidecar of this program without a volume was left by a killed process and may be replaced. Raises
    :class:`~medcyclegan.errors.WriteError`.
    """
    sidecar = sidecar_path(out)
    remove_leftovers(sidecar.parent, sidecar.name)
    record = _own_record(out)
    if out.exists() and not overwrite and record and "seconds" not in record:
        raise WriteError(
            f"{out} exists: outputs are not replaced unless you pass --overwrite (the command that wrote this one was "
            "ended before it had measured its quality)"
        )
    check_output(out, overwrite=overwrite)
    is_left_over = bool(record) and not out.exists()
    if sidecar.exists() and not overwrite and not is_left_over:
        raise WriteError(f"{sidecar} exists: outputs are not replaced unless you pass --overwrite")


def _own_record(out: Path) -> dict[str, Any]:
    try:
        return read_translation_record(out)
    except ReadError:
        return {}
