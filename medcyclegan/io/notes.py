"""What a reader says aloud, kept for the volume as well."""

from __future__ import annotations

import logging

from medcyclegan.errors import one_line

__all__ = ["Notes"]


class Notes:
    """The sentences said while one input is read: logged under its name, kept for ``Volume.notes``.

    Without a ``logger`` they are only kept. The kept sentences never hold the input's path, which may name a patient.
    """

    def __init__(self, logger: logging.Logger | None, name: str) -> None:
        self._logger = logger
        self._name = name
        self._sentences: list[str] = []

    @property
    def sentences(self) -> tuple[str, ...]:
        """All that was said, in order."""
        return tuple(self._sentences)

    def warn(self, sentence: str) -> None:
        """Say something that the user should know."""
        self._say(logging.WARNING, sentence)

    def tell(self, sentence: str) -> None:
        """Say something that changes nothing about the result."""
        self._say(logging.INFO, sentence)

    def _say(self, level: int, sentence: str) -> None:
        sentence = one_line(sentence)
        self._sentences.append(sentence)
        if self._logger is not None:
            self._logger.log(level, "%s: %s", one_line(self._name), sentence)
