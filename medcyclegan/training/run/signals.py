"""Signals: a run that is told to stop saves first, or stops at once where nothing would be lost."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

__all__ = ["StopSignals"]

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StopSignals:
    """Notes SIGTERM, SIGUSR1 and Ctrl-C inside its ``with`` block: ``received`` is then the signal's name.

    ``at_once``: whether a signal raises KeyboardInterrupt where it arrives. A training leaves this set until the first
    step of a session has ended, since before that there is nothing to save and compiling the step takes minutes; then
    signals are only noted. A second Ctrl-C interrupts at once in any case. In threads other than the main one, to which
    Python sends no signals, nothing is noted.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self.at_once = True
        self._before: dict[signal.Signals, Any] = {}

    @property
    def name(self) -> str:
        """The signal's name, for a message."""
        return self.received or "SIGINT"

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            # None: a handler that was not set from Python and cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        again = self.received == "SIGINT" and number == signal.SIGINT
        self.received = signal.Signals(number).name
        if self.at_once or again:
            raise KeyboardInterrupt
        log.info("%s: the step in hand is finished and saved first; a second Ctrl-C stops at once", self.received)
