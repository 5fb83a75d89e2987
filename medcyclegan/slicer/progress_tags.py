"""Report progress to Slicer, by tags on stdout."""

from __future__ import annotations

import time
from collections.abc import Callable
from xml.sax.saxutils import escape

__all__ = ["ProgressTags"]


class ProgressTags:
    """Write the progress of a program called ``title`` as the tags that Slicer reads."""

    def __init__(self, title: str, write: Callable[[str], object]) -> None:
        self._title, self._write = escape(title), write
        self._begun = time.monotonic()

    def start(self) -> None:
        """Write that the program begins."""
        self._write(
            f"<filter-start>\n<filter-name>{self._title}</filter-name>\n"
            "<filter-comment>reading</filter-comment>\n</filter-start>\n"
        )

    def advance(self, stage: str, fraction: float) -> None:
        """Write the ``fraction`` of the whole that is done, in the step ``stage``."""
        self._write(
            f"<filter-progress>{fraction:.3f}</filter-progress>\n<filter-comment>{escape(stage)}</filter-comment>\n"
        )

    def end(self) -> None:
        """Write that the program has finished."""
        seconds = time.monotonic() - self._begun
        self._write(
            f"<filter-progress>1</filter-progress>\n<filter-end>\n<filter-name>{self._title}</filter-name>\n"
            f"<filter-time>{seconds:.3f}</filter-time>\n</filter-end>\n"
        )
