"""Read a file in a thread while the caller does something else, such as loading a model."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from medcyclegan.errors import ReadError
from medcyclegan.io.formats import FORMATS
from medcyclegan.io.notes import Note, collected_notes
from medcyclegan.io.options import ReadOptions
from medcyclegan.io.read import find_format, read_with_options
from medcyclegan.volume import Volume

__all__ = ["read_ahead"]

_log = logging.getLogger(__name__)


def read_ahead(path: Path, options: ReadOptions) -> Callable[[], Volume]:
    """Begin to read the volume at ``path``; return the function that waits for it and returns it, once.

    The function also logs the messages about the volume, and raises the error that reading raised, so that both appear
    where the caller asks for the volume. Only NIfTI files are read in a thread, because decompressing them leaves the
    interpreter free; the function reads other volumes when it is called.
    """
    try:
        kind = None if path.is_dir() else find_format(path)
    except (ReadError, OSError):  # reported when the volume is asked for
        kind = None
    if kind != "nifti":
        return lambda: read_with_options(path, options)
    FORMATS[kind].load()  # imports in two threads at a time could meet in the middle of a package
    notes: list[Note] = []
    pool = ThreadPoolExecutor(1, thread_name_prefix="medcyclegan-read")
    waiting: list[Future[Volume]] = [pool.submit(_read_silently, path, options, notes)]
    pool.shutdown(wait=False)

    def finish() -> Volume:
        reading = waiting.pop()  # a reference that stayed would keep the volume in memory
        try:
            return reading.result()
        finally:
            for note in notes:
                _log.log(note.level, "%s: %s", note.name, note.sentence)

    return finish


def _read_silently(path: Path, options: ReadOptions, notes: list[Note]) -> Volume:
    """Read the volume, and add its messages to ``notes`` instead of logging them."""
    with collected_notes() as collected:
        try:
            return read_with_options(path, options)
        finally:
            notes.extend(collected)
