"""Markers of finished outputs: what each was made from, so that a repeated call keeps it or refuses to replace it.

A marker is written twice: when the work on an output begins, and when the output is complete. An output whose marker
says that it was only begun was left by a killed process, and the same input may replace it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from medcyclegan.errors import WriteError
from medcyclegan.inference import TranslationOptions
from medcyclegan.io import FoundVolume, sidecar_path
from medcyclegan.io.dicom.write.pseudonyms import identify_key_file
from medcyclegan.model import ModelBundle
from medcyclegan.provenance import hash_json
from medcyclegan.storage import atomic_write, exclusive_lock

__all__ = ["MARKERS", "claim_output", "finish_output", "marker_of", "release_output"]

MARKERS = ".done"
_LOCK = ".lock"
_BEGUN, _FILES = "begun", "files"
_END_BYTES = 1 << 16


def marker_of(found: FoundVolume, bundles: Sequence[ModelBundle], options: TranslationOptions) -> dict[str, Any]:
    """Return what an output depends on; an output with the same marker is kept. ``options.to`` has to be set."""
    settings = dataclasses.asdict(options.computing) | {"to": options.to, "reading": _reading_given(options)}
    for name in ("device", "batch_size"):
        settings.pop(name, None)
    if options.deidentify:
        key_file = options.pseudonyms
        settings["deidentify"] = "removed" if key_file is None else identify_key_file(Path(key_file))
    return {
        "input": hash_json([found.series_uid or [_ends(path) for path in found.files], *map(_stamp, found.files)]),
        "model": [bundle.fingerprint for bundle in bundles],
        "settings": hash_json(settings),
    }


def claim_output(
    folder: Path,
    output: Path,
    marker: Path,
    wanted: dict[str, Any],
    *,
    files: Mapping[Path, Any] = MappingProxyType({}),
    overwrite: bool,
) -> bool:
    """Write the marker of an output that has to be made, and return True; return False if it is up to date.

    ``folder``: that of all outputs, in which a lock keeps two processes from claiming one output for two inputs.
    ``files``: files that belong to the output, such as its preview, and the settings that only they depend on; if one
    is missing, the output has to be made again. Raises :class:`~medcyclegan.errors.WriteError` for an output that was
    made from something else, or by something else, and may not be replaced.
    """
    with exclusive_lock(folder / MARKERS / _LOCK, mode=0o600):
        current = _read(marker)
        exists = os.path.lexists(output)
        begun = bool(current.pop(_BEGUN, False))
        recorded = list(current.pop(_FILES, []))
        unknown = next((path for path in (output, sidecar_path(output)) if os.path.lexists(path)), None)
        if unknown is not None and not overwrite and not current:
            raise WriteError(
                f"{unknown} exists, and no marker of this command belongs to it: choose another OUT, or pass "
                "--overwrite"
            )
        changed = [key for key in wanted if current.get(key) != wanted[key]]
        if exists and changed and not overwrite:
            raise WriteError(
                f"{output.name} was made with another {' and '.join(changed)}: choose another OUT, or pass --overwrite"
            )
        # files of an output that is replaced, and that this call does not make again, do not belong to the new one
        known = [] if changed else recorded
        keys = {path: hash_json([_place(path, folder), settings]) for path, settings in files.items()}
        present = {path for path in files if os.path.lexists(path)}
        foreign = next((path for path in files if path in present and keys[path] not in known), None)
        if foreign is not None and not overwrite:
            raise WriteError(
                f"{foreign} exists, and was not made by this command with these settings: choose another folder, or "
                "pass --overwrite"
            )
        if current == wanted and exists and not begun and len(present) == len(files) and foreign is None:
            return False
        kept = sorted({*known, *keys.values()})
        _write(marker, {**wanted, **({_FILES: kept} if kept else {}), _BEGUN: True})
        return True


def finish_output(marker: Path) -> None:
    """Record that the output of ``marker`` is complete."""
    record = _read(marker)
    record.pop(_BEGUN, None)
    _write(marker, record)


def release_output(output: Path, marker: Path) -> None:
    """Remove the marker of an output that was not made."""
    if not os.path.lexists(output):
        marker.unlink(missing_ok=True)


def _place(path: Path, folder: Path) -> str:
    """Return the path from ``folder``, which stays the same if both are moved."""
    return os.path.relpath(os.path.realpath(path), os.path.realpath(folder))


def _read(marker: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(marker.read_text("utf-8"))
        if isinstance(found, dict):
            return found
    return {}


def _write(marker: Path, record: dict[str, Any]) -> None:
    with atomic_write(marker) as file:
        file.write((json.dumps(record) + "\n").encode())


def _reading_given(options: TranslationOptions) -> dict[str, Any]:
    """Return the reading options that differ from the defaults of a translation."""
    given = options.reading.given()
    given.pop("allow_synthetic", None)  # it counts only together with that of the translation
    return {**given, "allow_synthetic": True} if options.allow_synthetic else given


def _ends(path: Path) -> str:
    """Return the hash of the first and last bytes of a file: two files of one size may have the same time too."""
    digest = hashlib.sha256()
    with contextlib.suppress(OSError), path.open("rb") as file:
        digest.update(file.read(_END_BYTES))
        file.seek(-min(_END_BYTES, path.stat().st_size), os.SEEK_END)
        digest.update(file.read(_END_BYTES))
    return digest.hexdigest()


def _stamp(path: Path) -> list[int]:
    with contextlib.suppress(OSError):
        status = path.stat()
        return [status.st_size, status.st_mtime_ns]
    return []
