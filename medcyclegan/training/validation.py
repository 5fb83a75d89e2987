"""Validation: the cycle error on slices of patients that the networks are not trained on."""

from __future__ import annotations

import logging

import torch
from ignite.engine import Engine, Events

from medcyclegan.data import SliceIndex, StackReader
from medcyclegan.training.losses import cycle_loss
from medcyclegan.training.metrics_log import MetricsLog
from medcyclegan.training.plan import Plan
from medcyclegan.training.step import CycleGANStep

__all__ = ["CycleValidation", "cycle_errors", "held_out_slices"]

log = logging.getLogger(__name__)

#: Slices of A and of B, each ``(1, 1, H, W)``.
HeldOutSlices = tuple[list[torch.Tensor], list[torch.Tensor]]


class CycleValidation:
    """Adds a row with the cycle errors to ``metrics.jsonl`` every so many epochs and after the last step."""

    def __init__(self, plan: Plan, step: CycleGANStep, metrics: MetricsLog) -> None:
        self._plan = plan
        self._step = step
        self._metrics = metrics
        self._slices = held_out_slices(plan)
        for name, slices in zip(plan.domains, self._slices, strict=True):
            if not slices:
                log.info("no volumes of %s are held out: its cycle error is not validated", name)

    def attach(self, engine: Engine) -> None:
        """Validate after the steps of ``engine``, where anything is held out."""
        if any(self._slices):
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._validate)

    def _validate(self, engine: Engine) -> None:
        if self._plan.is_due(engine.state.iteration, self._plan.validate_every):
            self._metrics.write_row(engine.state.iteration, cycle_errors(self._step, self._slices))


def held_out_slices(plan: Plan) -> HeldOutSlices:
    """Return evenly spaced slices of the held-out volumes of A and of B; none where none are held out."""
    reader = StackReader(plan.store)
    images: HeldOutSlices = ([], [])
    for rows, own in zip(plan.held_out, images, strict=True):
        slices = SliceIndex(rows)
        for number in slices.spread(plan.config.validation.slices):
            own.append(torch.from_numpy(reader.read(*slices.find(number)))[None, None])
    return images


def cycle_errors(step: CycleGANStep, slices: HeldOutSlices) -> dict[str, float]:
    """Return the mean absolute difference between slices and their way there and back, by domain.

    In units of the scaled range [-1, 1]: ``validation_cycle_A`` and ``validation_cycle_B``, each where
    there are slices of that domain.
    """
    errors = {}
    with step.evaluating() as n:
        for name, there, back, images in (("A", n.G_AB, n.G_BA, slices[0]), ("B", n.G_BA, n.G_AB, slices[1])):
            losses = [cycle_loss(back(there(real)), real) for real in (image.to(step.device) for image in images)]
            if losses:
                errors[f"validation_cycle_{name}"] = float(torch.stack(losses).mean())
    return errors
