"""Warnings of a reader, logged and kept with the volume."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import logging
from collections.abc import Iterator

from medcyclegan.errors import one_line

__all__ = ["Note", "NoteLog", "Notes", "collected_notes"]


@dataclasses.dataclass(frozen=True)
class Note:
    """A message about the input ``name``, with the level at which it is logged."""

    level: int
    name: str
    sentence: str


_COLLECTED: contextvars.ContextVar[list[Note] | None] = contextvars.ContextVar("medcyclegan_notes", default=None)


@contextlib.contextmanager
def collected_notes() -> Iterator[list[Note]]:
    """Yield the list to which all :class:`Notes` in this context are added instead of being logged."""
    notes: list[Note] = []
    token = _COLLECTED.set(notes)
    try:
        yield notes
    finally:
        _COLLECTED.reset(token)


class NoteLog:
    """Logs the notes on many inputs: a sentence in full the first time, and later only for how many it holds."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._repeated: dict[tuple[int, str], int] = {}

    def log(self, note: Note) -> None:
        """Log ``note``, or count it if the same was logged about another input."""
        key = note.level, note.sentence
        if key in self._repeated:
            self._repeated[key] += 1
            return
        self._repeated[key] = 0
        self._logger.log(note.level, "%s: %s", note.name, note.sentence)

    def log_repeated(self) -> None:
        """Log how many more inputs each repeated sentence was about."""
        for (level, sentence), count in self._repeated.items():
            if count:
                self._logger.log(level, "%d more: %s", count, sentence)


class Notes:
    """The messages about one input: logged under its name, and kept for ``Volume.notes``.

    Without a ``logger`` they are only kept. The kept messages never contain the input's path, which may name a patient.
    """

    def __init__(self, logger: logging.Logger | None, name: str) -> None:
        self._logger = logger
        self._name = name
        self._sentences: list[str] = []

    @property
    def sentences(self) -> tuple[str, ...]:
        """All messages, in order."""
        return tuple(self._sentences)

    def set_name(self, name: str) -> None:
        """Log further messages under ``name``."""
        self._name = name

    def warn(self, sentence: str) -> None:
        """Log a warning."""
        self._log_and_keep(logging.WARNING, sentence)

    def info(self, sentence: str) -> None:
        """Log information that does not affect the result."""
        self._log_and_keep(logging.INFO, sentence)

    def _log_and_keep(self, level: int, sentence: str) -> None:
        sentence = one_line(sentence)
        self._sentences.append(sentence)
        if self._logger is None:
            return
        collected = _COLLECTED.get()
        if collected is None:
            self._logger.log(level, "%s: %s", one_line(self._name), sentence)
        else:
            collected.append(Note(level, one_line(self._name), sentence))
