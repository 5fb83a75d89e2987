"""Progress bars, shown only on a terminal and only if turned on; library calls show none by default."""

from __future__ import annotations

import contextlib
import contextvars
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["Bar", "progress_bar", "show_progress"]

_SHOWN: contextvars.ContextVar[bool] = contextvars.ContextVar("medcyclegan_progress", default=False)


def show_progress(shown: bool) -> None:
    """Turn progress bars on or off for this context; the command line turns them on for a terminal."""
    _SHOWN.set(shown)


class Bar:
    """A counter of finished steps, drawn by ``rich`` if progress bars are shown."""

    def __init__(self, progress: Progress | None, description: str, total: int, done: int) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=total, completed=done, said="") if progress else None

    @property
    def shown(self) -> bool:
        """Whether the bar is displayed."""
        return self._progress is not None

    def advance(self, steps: int = 1) -> None:
        """Count ``steps`` more as done."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, steps)

    def say(self, text: str) -> None:
        """Show ``text`` next to the bar; it replaces the previous text."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, said=text)


@contextlib.contextmanager
def progress_bar(description: str, total: int, *, done: int = 0) -> Iterator[Bar]:
    """Yield a :class:`Bar` of ``total`` steps, of which ``done`` are already finished."""
    if not (_SHOWN.get() and sys.stderr.isatty()):
        yield Bar(None, description, total, done)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[said]}"))
    with Progress(*columns, *times, console=Console(stderr=True), transient=True) as progress:
        yield Bar(progress, description, total, done)
