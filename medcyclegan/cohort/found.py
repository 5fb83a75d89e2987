"""The list of a cohort's volumes, which jobs read instead of each searching all folders."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from medcyclegan.errors import ReadError
from medcyclegan.io import FoundVolume
from medcyclegan.storage import atomic_write

__all__ = ["load_found", "save_found"]


def save_found(folder: Path, volumes: Mapping[str, Sequence[FoundVolume]]) -> Path:
    """Write the volumes of each domain as JSON lines to a file in ``folder`` and return its path.

    Its name is derived from its content, so that a folder can hold the lists of several cohorts. Only its owner can
    read it, because it contains file names and PatientIDs of patients.
    """
    content = "".join(_lines(volumes)).encode("ascii")
    file = folder / f"found-{hashlib.sha256(content).hexdigest()[:16]}.jsonl"
    if not file.exists():
        with atomic_write(file, mode=0o600) as stream:
            stream.write(content)
    return file


def load_found(file: Path, domains: Iterable[str]) -> dict[str, list[FoundVolume]]:
    """Read the volumes of these ``domains`` from a file that :func:`save_found` wrote.

    Raises :class:`~medcyclegan.errors.ReadError` for any other file.
    """
    volumes: dict[str, list[FoundVolume]] = {name: [] for name in domains}
    try:
        for line in file.read_text("ascii").splitlines():
            domain, fields = json.loads(line)
            names = fields.pop("files")
            path, relative = Path(fields.pop("path")), Path(fields.pop("relative_path"))
            files = tuple(path.parent / name for name in names)
            volumes[domain].append(FoundVolume(path=path, relative_path=relative, files=files, **fields))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ReadError(f"{file} is not a list of these volumes ({error!r}): run the command without --found") from None
    return volumes


def _lines(volumes: Mapping[str, Sequence[FoundVolume]]) -> Iterator[str]:
    """Yield one line per volume; paths of its files are relative to the parent folder of its path."""
    for domain, found in volumes.items():
        for volume in found:
            fields = {field.name: getattr(volume, field.name) for field in dataclasses.fields(volume)}
            fields |= {"path": str(volume.path), "relative_path": str(volume.relative_path)}
            fields["files"] = [os.path.relpath(file, volume.path.parent) for file in volume.files]
            yield json.dumps([domain, fields]) + "\n"
