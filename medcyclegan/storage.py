"""The one way in which this package writes files: whole under the final name, or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from medcyclegan.errors import WriteError

__all__ = ["atomic_folder", "atomic_write", "check_output", "is_temporary", "replace_link"]

_MARK = ".tmp-"


def is_temporary(path: Path) -> bool:
    """Whether ``path`` is named like a file that a killed :func:`atomic_write` left behind."""
    return path.name.startswith(_MARK)


def check_output(path: Path, *, overwrite: bool) -> None:
    """Refuse an output that exists (unless ``overwrite``) or whose folder cannot be written.

    Called before the work, so that an hour of it is not lost to a mistyped name. Raises
    :class:`~medcyclegan.errors.WriteError`.
    """
    if os.path.lexists(path) and not overwrite:
        raise WriteError(f"{path} exists: outputs are not replaced unless you pass --overwrite")
    parent = path.parent
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        raise WriteError(f"{parent} is not a folder, so {path} cannot be written: choose another output")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise WriteError(f"{parent} is not writable, so {path.name} cannot be made there: choose another output")


@contextlib.contextmanager
def atomic_write(path: Path, *, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Open ``path`` for binary writing so that it appears whole under its name, or not at all.

    A temporary file in the same folder is written, flushed to the disk and renamed; the folder is
    flushed too. On any exception the temporary file is removed and ``path`` is left as it was.
    ``mode`` is the permission before the umask. Raises :class:`~medcyclegan.errors.WriteError` for
    an unwritable folder or a full disk.
    """
    temporary = path.parent / f"{_MARK}{secrets.token_hex(4)}-{path.name[-60:]}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _flush_folder(path.parent)
    except OSError as error:
        raise WriteError(f"{path} cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def atomic_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` that takes its name when the block ends well.

    On any exception it is removed with what it holds. An existing ``path`` is replaced only with
    ``overwrite``. Raises :class:`~medcyclegan.errors.WriteError`.
    """
    check_output(path, overwrite=overwrite)
    temporary = path.parent / f"{_MARK}{secrets.token_hex(4)}-{path.name[-60:]}"
    try:
        temporary.mkdir(parents=True)
        try:
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _flush(file)
                else:
                    _flush_folder(file)
            _flush_folder(temporary)
            _swap_folder(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _flush_folder(path.parent)
    except OSError as error:
        raise WriteError(f"{path} cannot be written: {error.strerror or error}") from error


def replace_link(link: Path, target: str) -> None:
    """Make ``link`` a symbolic link to ``target``, without a moment in which there is none.

    A relative ``target`` counts from the link's folder. Raises :class:`~medcyclegan.errors.WriteError`.
    """
    temporary = link.parent / f"{_MARK}{secrets.token_hex(4)}-{link.name}"
    try:
        os.symlink(target, temporary)
        try:
            os.replace(temporary, link)
        except OSError:
            temporary.unlink()
            raise
    except OSError as error:
        raise WriteError(f"{link} cannot be made a link to {target}: {error.strerror}") from None


def _swap_folder(new: Path, path: Path) -> None:
    """Rename ``new`` to ``path``; what lay there is moved aside first and removed last."""
    if not os.path.lexists(path):
        os.rename(new, path)
        return
    aside = path.parent / f"{_MARK}{secrets.token_hex(4)}-old"
    os.rename(path, aside)
    os.rename(new, path)
    if aside.is_dir() and not aside.is_symlink():
        shutil.rmtree(aside)
    else:
        aside.unlink()


def _flush(file: Path) -> None:
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
