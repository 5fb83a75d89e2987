"""Stop signals: a run saves before it stops, or stops immediately if nothing would be lost."""

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
    """Catches SIGTERM, SIGUSR1 and Ctrl-C inside its ``with`` block; ``received`` is then the signal's name.

    ``at_once``: whether a signal raises KeyboardInterrupt immediately. It stays set until a session's first step is
    complete, since before that there is nothing to save and compiling the step takes minutes; after that, signals are
    only recorded. A second Ctrl-C interrupts immediately in any case. In threads other than the main one, to which
    Python sends no signals, nothing is caught.
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
            # None: a handler that was not set from Python and cannot be restored.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        again = self.received == "SIGINT" and number == signal.SIGINT
        self.received = signal.Signals(number).name
        if self.at_once or again:
            raise KeyboardInterrupt
        log.info("%s: finishing and saving the current step first; a second Ctrl-C stops immediately", self.received)
