"""Symbolic links whose target is gone: each may be a missing volume, or a missing slice of one."""

from __future__ import annotations

import os
from pathlib import Path

from medcyclegan.errors import ReadError

__all__ = ["BROKEN_LINK", "check_exists", "is_broken_link"]

#: What is wrong with one, and the remedy; its name comes first.
BROKEN_LINK = "{}: a symbolic link whose target does not exist or cannot be reached: restore the target, or remove it"


def is_broken_link(path: Path) -> bool:
    """Whether ``path`` is a symbolic link that leads to nothing, or in a circle."""
    return os.path.islink(path) and not os.path.exists(path)


def check_exists(path: Path, remedy: str = "check the name") -> None:
    """Raise :class:`~medcyclegan.errors.ReadError` where ``path`` leads to nothing."""
    if is_broken_link(path):
        raise ReadError(BROKEN_LINK.format(path))
    if not path.exists():
        raise ReadError(f"{path}: no such file or folder: {remedy}")
