"""The log messages of commands and scripts: one line each on stderr."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import TextIO

from medcyclegan.errors import one_line

__all__ = ["errors_only", "set_up_logging"]

#: Libraries whose warnings users can rarely act on; ``debug`` shows them.
_LIBRARIES = ("monai", "torch", "ignite", "nibabel", "pydicom", "pynetdicom", "highdicom", "PIL")
_PREFIXES = {logging.WARNING: "Warning: ", logging.ERROR: "Error: "}


class _OneLine(logging.Formatter):
    """Format a message in one line, with a prefix for warnings and errors; control characters are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one printable line, followed by the traceback if the record has one."""
        text = one_line(record.getMessage())
        trace = "\n" + self.formatException(record.exc_info) if record.exc_info else ""
        return f"{_PREFIXES.get(record.levelno, '')}{text}{trace}"


class _CurrentStderr(logging.StreamHandler[TextIO]):
    """Writes to what ``sys.stderr`` is at the time: while a progress bar is shown, to the lines above it."""

    @property
    def stream(self) -> TextIO:
        """The current ``sys.stderr``."""
        return sys.stderr

    @stream.setter
    def stream(self, _stream: TextIO) -> None:
        pass


@contextlib.contextmanager
def errors_only(name: str) -> Iterator[None]:
    """Hide the messages of the logger ``name`` that are not errors."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def set_up_logging(level: int = logging.INFO, *, debug: bool = False) -> None:
    """Print the package's messages from ``level`` on to stderr; with ``debug``, those of other libraries too."""
    handler = _CurrentStderr()
    handler.setFormatter(_OneLine())
    logger = logging.getLogger("medcyclegan")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(level)
    if debug:
        logging.getLogger().addHandler(handler)
        return
    for library in _LIBRARIES:
        warnings.filterwarnings("ignore", module=rf"{library}(\.|$)")
        logging.getLogger(library).setLevel(logging.CRITICAL)
