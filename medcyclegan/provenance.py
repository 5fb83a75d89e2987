"""Provenance of outputs: versions, hashes, times. No path, host name or user name is recorded."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

import medcyclegan

__all__ = ["hash_file", "hash_json", "keyed_hash", "now", "versions"]

_PACKAGES = ("torch", "monai", "pytorch-ignite", "pydicom", "highdicom", "nibabel", "SimpleITK", "numpy", "scipy")


def versions() -> dict[str, str]:
    """Return the versions of medcyclegan, Python and the libraries on which results depend."""
    found = {"medcyclegan": medcyclegan.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def now() -> str:
    """Return the current time in UTC as ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_json(value: Any) -> str:
    """Return the SHA-256 of a JSON value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def keyed_hash(key: bytes, *parts: str) -> str:
    """Return 16 hexadecimal digits that identify ``parts`` only to holders of ``key``.

    This is BLAKE2b with a key: without the key, hashing guessed names does not reveal which names are used.
    """
    digest = hashlib.blake2b(key=key, digest_size=8)
    for part in parts:
        digest.update(len(part.encode("utf-8", "surrogateescape")).to_bytes(8, "little"))
        digest.update(part.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
