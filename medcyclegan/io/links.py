"""Detect broken symbolic links, each of which may be a missing volume or slice."""

from __future__ import annotations

import os
import re
from pathlib import Path

from medcyclegan.errors import ReadError, nearest

__all__ = ["broken_link", "check_exists", "is_broken_link"]


def broken_link(name: str | Path) -> ReadError:
    """Return the refusal of a broken symbolic link; the message begins with ``name``."""
    return ReadError(
        f"{name}: a symbolic link whose target does not exist or cannot be reached",
        remedy="restore the target, or remove it",
    )


def is_broken_link(path: Path) -> bool:
    """Whether ``path`` is a symbolic link to nothing, or a circular one."""
    return os.path.islink(path) and not os.path.exists(path)


def check_exists(path: Path, remedy: str = "check the name") -> None:
    """Raise :class:`~medcyclegan.errors.ReadError` if ``path`` does not exist.

    The remedy is a file or folder of a similar name next to it, or else ``remedy``.
    """
    if is_broken_link(path):
        raise broken_link(path)
    if not path.exists() and re.match(r"https?:/", str(path)):
        raise ReadError(
            f"{path}: a web address, which only inspect, read_volume, and IN, OUT and --dicom-template of "
            "translate-volume accept",
            remedy="translate or copy the series into a folder first",
        )
    if not path.exists():
        near = nearest(path.name, _neighbors(path))
        raise ReadError(
            f"{path}: no such file or folder", remedy=f"did you mean {path.with_name(near)}?" if near else remedy
        )


def _neighbors(path: Path) -> list[str]:
    """Return the names in the folder of ``path``; none if it cannot be listed."""
    try:
        return [] if path.name in ("", "..") else os.listdir(path.parent)
    except OSError:
        return []
