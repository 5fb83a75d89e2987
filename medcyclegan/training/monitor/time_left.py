"""The estimated remaining time of a run, logged after the first steps and then at intervals."""

from __future__ import annotations

import logging
import time

from ignite.engine import Engine, Events

from medcyclegan.training.plan import Plan

__all__ = ["TimeLeft", "in_words"]

log = logging.getLogger(__name__)

#: Steps before the first estimate, and how many of them are not timed because they include warm-up.
_STEPS, _WARM_UP = 20, 3


class TimeLeft:
    """Logs the estimated remaining time after 20 steps of a session and then after each tenth of all steps."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._done = 0
        self._started = 0.0

    def attach(self, engine: Engine) -> None:
        """Register with ``engine``."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._log_time_left)

    def _log_time_left(self, engine: Engine) -> None:
        self._done += 1
        if self._done == _WARM_UP:
            self._started = time.monotonic()
        step, steps = engine.state.iteration, self._plan.steps
        tenth = step * 10 // steps > (step - 1) * 10 // steps
        if step < steps and (self._done == _STEPS or (self._done > _STEPS and tenth)):
            seconds = (time.monotonic() - self._started) / (self._done - _WARM_UP)
            left = in_words(seconds * (steps - step))
            log.info("step %d of %d: %.3g s a step, about %s left", step, steps, seconds, left)


def in_words(seconds: float) -> str:
    """Return a duration as text: ``45 s``, ``12 min``, ``3 h 20 min``, ``2 days 4 h``."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 90:
        return f"{round(seconds)} s"
    if minutes < 90:
        return f"{minutes} min"
    if hours < 36:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{hours // 24} days {hours % 24} h"
