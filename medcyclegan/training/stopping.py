"""Signals: a run that is told to stop saves first."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from ignite.engine import Engine, Events

__all__ = ["StopSignals"]

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StopSignals:
    """Notes SIGTERM, SIGUSR1 and Ctrl-C inside its ``with`` block, and ends the engine after the step in hand.

    ``received`` is then the signal's name. A second Ctrl-C interrupts at once. In threads other than
    the main one, which Python sends no signals, it does nothing.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def attach(self, engine: Engine) -> None:
        """End ``engine`` after the step in which a signal came."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._end)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number).name
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _end(self, engine: Engine) -> None:
        if self.received is not None:
            engine.terminate()
