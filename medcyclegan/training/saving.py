"""What a run leaves behind at each checkpoint: the checkpoint itself, the model folder, the record."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from medcyclegan.errors import TrainingError
from medcyclegan.inference.bundle import DomainModel, ModelBundle, target_scaling
from medcyclegan.slicing.plane import Preparation
from medcyclegan.training.checkpoint import save_checkpoint, step_state
from medcyclegan.training.health import Health
from medcyclegan.training.metrics_log import MetricsLog
from medcyclegan.training.plan import Plan
from medcyclegan.training.run_folder import RunFolder
from medcyclegan.training.step import CycleGANStep
from medcyclegan.training.stopping import StopSignals

__all__ = ["Checkpoints", "build_bundle"]

log = logging.getLogger(__name__)


class Checkpoints:
    """Saves when it is due, after the last step, and when the run is told to stop, which then ends it.

    ``record``: what ``run.json`` holds; its ``step`` becomes that of the last checkpoint. Networks
    that are no longer finite are not saved: the error says so and the checkpoint before stays.
    """

    def __init__(
        self,
        run: RunFolder,
        record: dict[str, Any],
        plan: Plan,
        step: CycleGANStep,
        metrics: MetricsLog,
        health: Health,
        stop: StopSignals,
    ) -> None:
        self._run = run
        self._record = record
        self._plan = plan
        self._step = step
        self._metrics = metrics
        self._health = health
        self._stop = stop

    def attach(self, engine: Engine) -> None:
        """Save after the steps of ``engine``, and end it after a signal."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._save_if_due)

    def _save_if_due(self, engine: Engine) -> None:
        step, told_to_stop = engine.state.iteration, self._stop.received is not None
        if told_to_stop or self._plan.is_due(step, self._plan.checkpoint_every):
            self.save(step)
        if told_to_stop:
            engine.terminate()

    def save(self, step: int) -> None:
        """Save the state after ``step`` steps: the checkpoint, then the model, then the record."""
        self._metrics.check_finite(step)
        if not all(bool(torch.isfinite(p).all()) for p in self._step.networks.parameters()):
            raise TrainingError(
                f"step {step}: weights became NaN or infinite and are not saved: start again with a lower "
                "training.learning_rate, or with training.precision=fp32"
            )
        training = self._plan.config.training
        state = {
            "config": self._plan.config.model_dump(mode="json"),
            "metrics": self._metrics.state_dict(),
            "health": self._health.state_dict(),
            **step_state(self._step),
        }
        path = save_checkpoint(self._run.checkpoints, step, state, keep=training.keep_last)
        self.save_model(step)
        self._record["step"] = step
        self._run.save_record(self._record)
        log.debug("saved %s", path)

    def save_model(self, step: int) -> Path:
        """Write the model folder as it is after ``step`` steps."""
        return build_bundle(self._plan, self._step, step).save(self._run.model, overwrite=True)


def build_bundle(plan: Plan, step: CycleGANStep, steps_done: int) -> ModelBundle:
    """Return the model that the networks are now, with all that translation needs."""
    domains = []
    for name, rows in zip(plan.domains, plan.training, strict=True):
        modalities = {row.modality for row in rows}
        modality = modalities.pop() if len(modalities) == 1 else None
        domains.append(DomainModel(name, modality, target_scaling(rows), plan.config.domains[name].scaling))
    slicing = plan.config.slicing
    return ModelBundle(
        domains=(domains[0], domains[1]),
        preparation=Preparation(slicing.size, slicing.fit, slicing.pixel_mm),
        generator=plan.config.networks.generator,
        weights={
            "G_AB": {name: tensor.cpu() for name, tensor in step.model.G_AB.state_dict().items()},
            "G_BA": {name: tensor.cpu() for name, tensor in step.model.G_BA.state_dict().items()},
        },
        provenance={
            "config": plan.config.model_dump(mode="json"),
            "steps": steps_done,
            "planned_steps": plan.steps,
            "training_slices": dict(zip(plan.domains, plan.slices, strict=True)),
            "training_volumes": {n: len(rows) for n, rows in zip(plan.domains, plan.training, strict=True)},
            "slices_sha256": plan.fingerprint,
            "precision": step.precision,
        },
    )
