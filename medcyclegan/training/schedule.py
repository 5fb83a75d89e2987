"""The learning rate as a pure function of the step, without state to restore."""

from __future__ import annotations

from typing import Literal

import torch
from ignite.engine import Engine, Events

from medcyclegan.training.plan import Plan
from medcyclegan.training.update.step import CycleGANStep

__all__ = ["LearningRate", "rate_factor"]


def rate_factor(step: int, steps: int, schedule: Literal["linear", "constant"]) -> float:
    """Return the factor of the learning rate at ``step`` (counted from 0) of ``steps``.

    ``linear``: 1 in the first half, then a linear decrease towards 0 at the end (Zhu et al. 2017, section 7.1); the
    rate of the last step is still above 0.
    """
    half = steps // 2
    if schedule == "constant" or step < half:
        return 1.0
    return (steps - step) / (steps - half)


class LearningRate:
    """Sets the learning rate of both optimizers before each step."""

    def __init__(self, plan: Plan, step: CycleGANStep) -> None:
        self._plan = plan
        self._optimizers = (step.optimizer_G, step.optimizer_D)

    def attach(self, engine: Engine) -> None:
        """Follow the steps of ``engine``."""
        engine.add_event_handler(Events.ITERATION_STARTED, self._set_rate)

    def _set_rate(self, engine: Engine) -> None:
        training = self._plan.config.training
        factor = rate_factor(engine.state.iteration - 1, self._plan.steps, training.schedule)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                if isinstance(group["lr"], torch.Tensor):
                    group["lr"].fill_(training.learning_rate * factor)
                else:
                    group["lr"] = training.learning_rate * factor
