"""Symbolic links whose target is gone: each may be a missing volume, or a missing slice of one."""

from __future__ import annotations

import os
from pathlib import Path

from medcyclegan.errors import ReadError

__all__ = ["broken_link", "check_exists", "is_broken_link"]


def broken_link(name: str | Path) -> ReadError:
    """Return the refusal of a broken symbolic link; the message begins with ``name``."""
    return ReadError(
        f"{name}: a symbolic link whose target does not exist or cannot be reached",
        remedy="restore the target, or remove it",
    )


def is_broken_link(path: Path) -> bool:
    """Whether ``path`` is a symbolic link that leads to nothing, or in a circle."""
    return os.path.islink(path) and not os.path.exists(path)


def check_exists(path: Path, remedy: str = "check the name") -> None:
    """Raise :class:`~medcyclegan.errors.ReadError` where ``path`` leads to nothing."""
    if is_broken_link(path):
        raise broken_link(path)
    if not path.exists():
        raise ReadError(f"{path}: no such file or folder", remedy=remedy)
