"""Atomic writing of files and folders: complete under the final name, or not at all. Locks."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import glob
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from medcyclegan.errors import WriteError

__all__ = [
    "atomic_folder",
    "atomic_write",
    "check_output",
    "check_space",
    "exclusive_lock",
    "is_locked",
    "is_temporary",
    "remove_leftovers",
    "replace_link",
    "scratch_folder",
]

log = logging.getLogger(__name__)

_MARK = ".tmp-"
_LONGEST_NAME = 255  # bytes, on Linux
#: Space that must remain free on a file system, for other files that are written meanwhile.
_SPARE_BYTES = 1 << 20
_LOCKED_WITHIN_S = 5.0
_REMEDIES = {
    errno.ENOSPC: "free some space, or choose another output",
    errno.EDQUOT: "free some of your quota, or choose another output",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f), or choose another output",
}
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def is_temporary(path: Path) -> bool:
    """Return whether ``path`` has the name of a temporary file of :func:`atomic_write`."""
    return path.name.startswith(_MARK)


def check_output(path: Path, *, overwrite: bool) -> None:
    """Refuse an output that exists (unless ``overwrite``) or whose folder is not writable.

    It is called before the computation, so that no result is lost because of a mistyped name. Temporary files that a
    killed process left of the same output are removed first. Raises :class:`~medcyclegan.errors.WriteError`.
    """
    remove_leftovers(path.parent, path.name)
    if os.path.lexists(path) and not overwrite:
        raise WriteError(f"{path} exists: outputs are not replaced unless you pass --overwrite")
    if len(os.fsencode(path.name)) > _LONGEST_NAME:
        raise WriteError(f"{path.name[:60]}...: a name may have at most {_LONGEST_NAME} bytes: choose a shorter one")
    parent = _existing_folder(path)
    if not parent.is_dir():
        raise WriteError(f"{parent} is not a folder, so {path} cannot be written: choose another output")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise WriteError(f"{parent} is not writable, so {path.name} cannot be created there: choose another output")


def check_space(path: Path, needed: int, what: str, *, at_most: int = 0) -> None:
    """Refuse, before the computation, an output of ``needed`` bytes that does not fit on the file system.

    ``at_most``: the largest possible size, if only bounds are known, as for a compressed file; if there is not enough
    space for that, a warning is logged. Raises :class:`~medcyclegan.errors.WriteError`.
    """
    folder = _existing_folder(path)
    try:
        free = shutil.disk_usage(folder).free
    except OSError:  # no statfs there: the write itself may fail
        return
    if needed + _SPARE_BYTES > free:
        raise WriteError(
            f"{what} needs {_in_bytes(needed + _SPARE_BYTES)}, {_in_bytes(needed + _SPARE_BYTES - free)} more than "
            f"{folder} has left: free that much, or choose another output"
        ) from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if at_most + _SPARE_BYTES > free:
        log.warning(
            "%s takes up to %s, %s more than %s has left: it may not fit",
            *(what, _in_bytes(at_most), _in_bytes(at_most + _SPARE_BYTES - free), folder),
        )


def _in_bytes(size: int) -> str:
    """Return a number of bytes as text: ``812 bytes``, ``4.2 kB``, ``1.5 GB``."""
    if size < 1000:
        return f"{size} bytes"
    digits = size / 1000
    for unit in ("kB", "MB", "GB"):
        if digits < 999.95:
            return f"{digits:.1f} {unit}"
        digits /= 1000
    return f"{digits:.1f} TB"


def remove_leftovers(folder: Path, ending: str = "") -> int:
    """Remove temporary files and folders in ``folder`` whose writer has ended; return their number.

    A writer holds a lock on what it writes, which the system releases when the process ends. ``ending``: only remove
    those whose final name has this ending.
    """
    removed = 0
    for path in folder.glob(f"{_MARK}*{glob.escape(ending[-60:])}") if folder.is_dir() else ():
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            continue
        with contextlib.suppress(OSError):  # locked by its writer, removed meanwhile, or no permission
            descriptor = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_just_begun(path):
                    continue
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
                removed += 1
            finally:
                os.close(descriptor)
    return removed


def _why(error: OSError) -> str:
    """Return why a file cannot be written, with what to do about it."""
    return f"{error.strerror or error}: {_REMEDIES.get(error.errno or 0, 'choose another output')}"


@contextlib.contextmanager
def atomic_write(path: Path, *, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Open ``path`` for binary writing; the file appears complete under its name, or not at all.

    A temporary file in the same folder is written, flushed to disk and renamed; the folder is flushed too. On any
    exception the temporary file is removed and ``path`` remains unchanged. ``mode``: the permissions before the umask.
    Raises :class:`~medcyclegan.errors.WriteError` for
    an unwritable folder or a full disk.
    """
    temporary = path.parent / f"{_MARK}{secrets.token_hex(4)}-{path.name[-60:]}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                _hold(file.fileno())
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        flush_folder(path.parent)
    except OSError as error:
        raise WriteError(f"{path} cannot be written: {_why(error)}") from error


@contextlib.contextmanager
def atomic_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder next to ``path`` that is renamed to ``path`` when the block ends without an error.

    On any exception it is removed with its contents. An existing ``path`` is replaced only with ``overwrite``, also if
    it was created while the block ran. Raises :class:`~medcyclegan.errors.WriteError`.
    """
    check_output(path, overwrite=overwrite)
    temporary = path.parent / f"{_MARK}{secrets.token_hex(4)}-{path.name[-60:]}"
    try:
        temporary.mkdir(parents=True)
        held = os.open(temporary, os.O_RDONLY)
        try:
            _hold(held)
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_symlink():  # its target is not ours, and perhaps not writable
                    continue
                if file.is_file():
                    _flush(file)
                else:
                    flush_folder(file)
            flush_folder(temporary)
            if overwrite:
                _swap_folder(temporary, path)
            else:  # fails if another process created a folder of that name meanwhile
                os.rename(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        finally:
            os.close(held)
        flush_folder(path.parent)
    except OSError as error:
        raise WriteError(f"{path} cannot be written: {_why(error)}") from error


@contextlib.contextmanager
def scratch_folder(parent: Path, name: str, *, mode: int = 0o777) -> Iterator[Path]:
    """Yield a temporary folder in ``parent``, which is created; the folder is removed when the block ends.

    Those of the same ``name`` that a killed process left are removed first. ``mode``: the permissions before the
    umask. Raises :class:`~medcyclegan.errors.WriteError`.
    """
    remove_leftovers(parent, name)
    temporary = parent / f"{_MARK}{secrets.token_hex(4)}-{name}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir(mode=mode)
        held = os.open(temporary, os.O_RDONLY)
    except OSError as error:
        raise WriteError(f"{parent} cannot be written: {_why(error)}") from None
    try:
        _hold(held)
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(held)


@contextlib.contextmanager
def exclusive_lock(path: Path, *, wait: bool = True, mode: int = 0o666) -> Iterator[None]:
    """Hold the lock file ``path``, created if necessary; the system releases the lock when the process ends.

    ``mode``: the permissions of a new file before the umask. Raises BlockingIOError if another process holds the lock
    and ``wait`` is not set, and :class:`~medcyclegan.errors.WriteError` if the file cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, mode)
    except OSError as error:
        raise WriteError(f"{path.parent} cannot be written: {_why(error)}") from None
    with os.fdopen(descriptor, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


def is_locked(path: Path) -> bool:
    """Return whether another process holds the lock file ``path``; true if that cannot be determined."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def replace_link(link: Path, target: str) -> None:
    """Make ``link`` a symbolic link to ``target``; an existing link is replaced atomically.

    A relative ``target`` is relative to the folder of the link. Raises :class:`~medcyclegan.errors.WriteError`.
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


def _existing_folder(path: Path) -> Path:
    """Return the nearest existing path above ``path``, which is a folder unless a file has that name."""
    parent = path.parent
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    return parent


def _is_just_begun(path: Path) -> bool:
    """Return whether a file or folder was created so recently that it may not be locked yet."""
    empty = not any(path.iterdir()) if path.is_dir() else path.stat().st_size == 0
    return empty and time.time() - path.stat().st_mtime < _LOCKED_WITHIN_S


def _hold(descriptor: int) -> None:
    """Lock a file or folder that is being written, so that :func:`remove_leftovers` keeps it."""
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)


def _swap_folder(new: Path, path: Path) -> None:
    """Rename ``new`` to ``path``; the previous folder is removed last, so that one of the two always exists."""
    if not os.path.lexists(path):
        os.rename(new, path)
        return
    aside = path.parent / f"{_MARK}{secrets.token_hex(4)}-{path.name[-60:]}"
    if _exchange(new, path):
        os.rename(new, aside)
    else:  # not supported by the system or the file system: two steps
        os.rename(path, aside)
        os.rename(new, path)
    if aside.is_dir() and not aside.is_symlink():
        shutil.rmtree(aside)
    else:
        aside.unlink()


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step (renameat2 of Linux); return False if that is not supported."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    return bool(rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)


def _flush(file: Path) -> None:
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())


def flush_folder(folder: Path) -> None:
    """Write the entries of ``folder`` to the disk, so that they survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
