"""The estimated remaining time of a run, logged after the first steps and then at intervals."""

from __future__ import annotations

import logging
import time

import torch
from ignite.engine import Engine, Events

from medcyclegan.config import load_config
from medcyclegan.training.plan import Plan

__all__ = ["TimeLeft", "format_duration"]

log = logging.getLogger(__name__)

#: Steps before the estimate of a fast training. One whose steps take this long gets a first estimate at once.
_STEPS, _SLOW_S = 20, 1.0
#: Steps that are not timed because they include warm-up: one at first, and later all that may compile something.
_FIRST, _WARM_UP = 1, 3
#: A training on a CPU that takes longer than this is one for which a smaller configuration may be meant.
_LONG_S = 3600.0


class TimeLeft:
    """Logs the estimated remaining time of a session: after its first steps, and then after each tenth of all steps.

    If a step takes a second or more, the first estimate follows step 2, otherwise it follows step 20. On ``device``, a
    CPU, it names smaller configurations if the training will take long.
    """

    def __init__(self, plan: Plan, device: torch.device) -> None:
        self._plan = plan
        self._device = device
        self._done = 0
        self._timed_from = (0, 0.0)
        self._estimated = False

    def attach(self, engine: Engine) -> None:
        """Register with ``engine``."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._log_time_left)

    def _log_time_left(self, engine: Engine) -> None:
        self._done += 1
        now = time.monotonic()
        first, started = self._timed_from
        step, steps = engine.state.iteration, self._plan.steps
        tenth = step * 10 // steps > (step - 1) * 10 // steps
        is_slow = not self._estimated and self._done > _FIRST and now - started >= _SLOW_S
        if step < steps and (is_slow or self._done == _STEPS or (self._done > _STEPS and tenth)):
            seconds = (now - started) / (self._done - first)
            left = seconds * (steps - step)
            log.info("step %d of %d: %.3g s a step, about %s left", step, steps, seconds, format_duration(left))
            if not self._estimated and left > _LONG_S:
                self._name_smaller_configurations(step)
            self._estimated = True
        if self._done in (_FIRST, _WARM_UP):
            self._timed_from = (self._done, now)

    def _name_smaller_configurations(self, step: int) -> None:
        """Log the configurations for a CPU, if this is one and a new run of ``train`` with larger networks."""
        is_new = step == self._done
        if self._device.type != "cpu" or self._plan.command != "train" or not is_new:
            return
        if self._plan.config.networks.generator.filters > load_config("demo").networks.generator.filters:
            log.info("a CPU is slow at this: --config demo trains in minutes, --config smoke in seconds")


def format_duration(seconds: float) -> str:
    """Return a duration as text: ``45 s``, ``12 min``, ``3 h 20 min``, ``2 days 4 h``."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 90:
        return f"{round(seconds)} s"
    if minutes < 90:
        return f"{minutes} min"
    if hours < 36:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{hours // 24} days {hours % 24} h"
