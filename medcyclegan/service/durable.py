"""Folders of the queue that survive a power failure."""

from __future__ import annotations

import os
from pathlib import Path

from medcyclegan.errors import WriteError
from medcyclegan.storage import flush_folder

__all__ = ["make_private_folder", "move_durably"]


def make_private_folder(folder: Path) -> None:
    """Create ``folder`` with mode 0700 durably, and its parents, unless it exists. Raises ``WriteError``."""
    try:
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.mkdir(mode=0o700, exist_ok=True)
            flush_folder(folder.parent)
    except OSError as error:
        raise WriteError(f"{folder} cannot be created: {error.strerror}") from error


def move_durably(source: Path, target: Path) -> None:
    """Rename ``source`` to ``target``, which must not exist, so that it survives a power failure.

    Raises :class:`~medcyclegan.errors.WriteError`.
    """
    try:
        os.rename(source, target)
        flush_folder(target.parent)
        flush_folder(source.parent)
    except OSError as error:
        raise WriteError(f"{source} cannot be renamed to {target}: {error.strerror}") from error
