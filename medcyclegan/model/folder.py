"""Read the files of a model folder, and check that no link leads out and that the SHA-256 of each file is right.

Importing it is fast: torch is imported when weights are read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medcyclegan.errors import ModelError
from medcyclegan.provenance import hash_json

if TYPE_CHECKING:
    import torch

__all__ = [
    "CHECKSUM",
    "FORMAT",
    "MODEL_JSON",
    "checksum_of",
    "fault_of",
    "read_checked",
    "read_optional",
    "read_record",
    "read_weights",
]

FORMAT = 1
MODEL_JSON = "model.json"
#: The key of model.json that holds the SHA-256 of all other keys.
CHECKSUM = "record_sha256"
_LARGEST_RECORD = 1 << 24


def checksum_of(record: Mapping[str, Any]) -> str:
    """Return the SHA-256 of all other keys of a record, after a round trip through JSON."""
    return hash_json(json.loads(json.dumps({key: value for key, value in record.items() if key != CHECKSUM})))


def read_record(path: Path) -> dict[str, Any]:
    """Return the contents of ``model.json`` in the folder ``path``, after checking its format and its checksum."""
    file = path / MODEL_JSON
    try:
        if _inside(path, MODEL_JSON).stat().st_size > _LARGEST_RECORD:
            raise ModelError(f"{file} is larger than {_LARGEST_RECORD} bytes, the limit: name a model folder")
        record = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path} holds no {MODEL_JSON}: name a model folder, such as runs/latest/model") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file} cannot be read: {error}") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else type(record).__name__
        raise ModelError(
            f"{file}: format {found!r}, but this version reads format {FORMAT}: use the version that wrote it"
        )
    if CHECKSUM in record and record[CHECKSUM] != checksum_of(record):
        raise ModelError(
            f"{file} was changed after it was written ({CHECKSUM} differs): copy it again, or remove "
            "that key if you made the change"
        )
    return record


def fault_of(error: Exception) -> str:
    """Return what is wrong with a ``model.json`` whose values raised ``error``, to follow the file's name."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False)[0]
        if first["type"] == "extra_forbidden":
            return (
                f"has the setting {'.'.join(map(str, first['loc']))} = {first['input']!r}, which this version does not "
                "have: use the version that wrote the model, or train it again"
            )
    return f"is not a model of medcyclegan: {error!r}"


def _inside(folder: Path, name: str) -> Path:
    """Return ``folder / name``; raise ModelError if a link leads out of the folder."""
    file = folder / name
    if file.resolve().parent != folder.resolve():
        raise ModelError(f"{file} is a link that leads out of the model folder: copy the file itself into the folder")
    if file.exists() and not file.is_file():
        raise ModelError(f"{file} is not a regular file: copy the model folder again")
    return file


def read_checked(folder: Path, name: str, sha256: str) -> bytes:
    """Return the bytes of a file in the model folder, after comparing their SHA-256 with the one in the record."""
    file = _inside(folder, name)
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{folder} holds no {file.name}: the model folder is incomplete: copy all of it") from None
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ModelError(
            f"{file} is not the file that {MODEL_JSON} names (SHA-256 differs): copy the model folder again"
        )
    return data


def read_optional(folder: Path, name: str) -> bytes:
    """Return the bytes of a file in the model folder; none if it does not exist."""
    file = _inside(folder, name)
    try:
        if file.stat().st_size > _LARGEST_RECORD:
            raise ModelError(f"{file} is larger than {_LARGEST_RECORD} bytes, the limit: remove it")
        return file.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}") from None


def read_weights(folder: Path, name: str, sha256: str) -> dict[str, torch.Tensor]:
    """Return the weights of the generator ``name``, after checking their file's SHA-256."""
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    file = f"{name}.safetensors"
    try:
        weights: dict[str, torch.Tensor] = load_tensors(read_checked(folder, file, sha256))
    except SafetensorError as error:
        raise ModelError(f"{folder / file} is not a safetensors file: {error}") from None
    for key, tensor in weights.items():
        if not tensor.isfinite().all():
            raise ModelError(
                f"{folder / file}: {key} contains NaN or infinite weights: train again from an earlier checkpoint"
            )
    return weights
