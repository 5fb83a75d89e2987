"""Progress of long steps: bars on a terminal if they are turned on, and a function of the program if it listens."""

from __future__ import annotations

import contextlib
import contextvars
import sys
import time
from collections.abc import Callable, Iterable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["Bar", "Listener", "StageProgress", "listen_to_progress", "progress_bar", "show_progress"]

#: Called with the description of a step, the number of its parts that are done, and the number of all.
Listener = Callable[[str, int, int], None]

_SHOWN: contextvars.ContextVar[bool] = contextvars.ContextVar("medcyclegan_progress", default=False)
#: The width of a bar, and that of all columns but the description and the text next to the bar.
_BAR = 20
_OTHER_COLUMNS = _BAR + len(" 1000/1000  0:00:00 left 0:00:00  ")

_LISTENER: contextvars.ContextVar[Listener | None] = contextvars.ContextVar("medcyclegan_listener", default=None)


def show_progress(shown: bool) -> None:
    """Turn progress bars on or off for this context; the command line turns them on for a terminal."""
    _SHOWN.set(shown)


@contextlib.contextmanager
def listen_to_progress(listener: Listener) -> Iterator[None]:
    """Call ``listener`` whenever a step of the block begins or advances."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def _fitted(text: str, width: int) -> str:
    """Return as many of the parts of ``text``, which two spaces separate, as fit: a longer line would be broken.

    >>> _fitted("epoch 2.1  G 30.9  0.7 GiB", 18)
    'epoch 2.1  G 30.9'
    """
    parts = text.split("  ")
    while parts and len("  ".join(parts)) > width:
        parts.pop()
    return "  ".join(parts)


class StageProgress:
    """A listener that turns the steps of a job into a fraction of the whole, at most ten times a second.

    ``notify`` is called with the step and the fraction. ``stages``: the descriptions of the steps in their order, each
    with its share of the whole; steps of other descriptions do not count.
    """

    def __init__(self, notify: Callable[[str, float], object], stages: Iterable[tuple[str, float]]) -> None:
        self._notify = notify
        self._stages: dict[str, tuple[float, float]] = {}
        start = 0.0
        for name, share in stages:
            self._stages[name] = (start, share)
            start += share
        self._next = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Receive that ``done`` of ``total`` parts of a step are done."""
        if stage not in self._stages or (time.monotonic() < self._next and done < total):
            return
        self._next = time.monotonic() + 0.1
        start, share = self._stages[stage]
        self._notify(stage, min(start + share * (done / total if total else 1.0), 1.0))


class Bar:
    """A counter of finished steps, drawn by ``rich`` if progress bars are shown."""

    def __init__(self, progress: Progress | None, description: str, total: int, done: int) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=total, completed=done, text_shown="") if progress else None
        self._listener, self._description, self._total, self._done = _LISTENER.get(), description, total, done
        self._notify()

    @property
    def shown(self) -> bool:
        """Whether the bar is displayed."""
        return self._progress is not None

    def advance(self, steps: int = 1) -> None:
        """Count ``steps`` more as done."""
        self._done += steps
        self._notify()
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, steps)

    def _notify(self) -> None:
        if self._listener is not None:
            self._listener(self._description, self._done, self._total)

    def show(self, text: str) -> None:
        """Show ``text`` next to the bar; it replaces the previous text."""
        if self._progress is not None and self._task is not None:
            width = self._progress.console.width - len(self._description) - _OTHER_COLUMNS
            self._progress.update(self._task, text_shown=_fitted(text, width))


@contextlib.contextmanager
def progress_bar(description: str, total: int, *, done: int = 0) -> Iterator[Bar]:
    """Yield a :class:`Bar` of ``total`` steps, of which ``done`` are already finished."""
    if not (_SHOWN.get() and sys.stderr.isatty()):
        yield Bar(None, description, total, done)
        return
    columns = (TextColumn("{task.description}"), BarColumn(_BAR), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[text_shown]}"))
    with Progress(*columns, *times, console=Console(stderr=True), transient=True) as progress:
        yield Bar(progress, description, total, done)
