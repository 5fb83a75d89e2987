"""Report progress to Slicer, by tags on stdout."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from xml.sax.saxutils import escape

__all__ = ["ProgressTags"]


class ProgressTags:
    """Write the progress of a translation as the tags that Slicer reads, at most ten times a second.

    ``stages``: the descriptions of the steps in their order, each with its share of the whole.
    """

    def __init__(self, title: str, write: Callable[[str], object], stages: Iterable[tuple[str, float]]) -> None:
        self._title, self._write = escape(title), write
        self._stages: dict[str, tuple[float, float]] = {}
        start = 0.0
        for name, share in stages:
            self._stages[name] = (start, share)
            start += share
        self._next = 0.0
        self._begun = time.monotonic()

    def start(self) -> None:
        """Write that the program begins."""
        self._write(
            f"<filter-start>\n<filter-name>{self._title}</filter-name>\n"
            "<filter-comment>reading</filter-comment>\n</filter-start>\n"
        )

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Write the progress of the whole after ``done`` of ``total`` parts of a stage; others are not reported."""
        if stage not in self._stages or (time.monotonic() < self._next and done < total):
            return
        self._next = time.monotonic() + 0.1
        start, share = self._stages[stage]
        fraction = start + share * (done / total if total else 1.0)
        comment = f"<filter-comment>{escape(stage)}</filter-comment>\n"
        self._write(f"<filter-progress>{min(fraction, 1.0):.3f}</filter-progress>\n{comment}")

    def end(self) -> None:
        """Write that the program has finished."""
        seconds = time.monotonic() - self._begun
        self._write(
            f"<filter-progress>1</filter-progress>\n<filter-end>\n<filter-name>{self._title}</filter-name>\n"
            f"<filter-time>{seconds:.3f}</filter-time>\n</filter-end>\n"
        )
