"""Warnings of a reader, logged and kept with the volume."""

from __future__ import annotations

import logging

from medcyclegan.errors import one_line

__all__ = ["Notes"]


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

    def tell(self, sentence: str) -> None:
        """Log information that does not affect the result."""
        self._log_and_keep(logging.INFO, sentence)

    def _log_and_keep(self, level: int, sentence: str) -> None:
        sentence = one_line(sentence)
        self._sentences.append(sentence)
        if self._logger is not None:
            self._logger.log(level, "%s: %s", one_line(self._name), sentence)
