"""Saving at each checkpoint: the checkpoint itself, the model folder and ``run.json``."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events

from medcyclegan.errors import TrainingError
from medcyclegan.model.bundle import DomainModel, ModelBundle, target_scaling
from medcyclegan.model.fitness import Fitness, ModelWarning
from medcyclegan.plane import Preparation
from medcyclegan.storage import check_space
from medcyclegan.training.monitor.health import Health
from medcyclegan.training.monitor.metrics_log import MetricsLog
from medcyclegan.training.monitor.trackers import Tracker
from medcyclegan.training.monitor.validation import Validation, weights_of
from medcyclegan.training.plan import Plan
from medcyclegan.training.run.checkpoint import save_checkpoint, step_state
from medcyclegan.training.run.folder import RunFolder
from medcyclegan.training.run.signals import StopSignals
from medcyclegan.training.run.state import RunState
from medcyclegan.training.update.step import CycleGANStep

__all__ = ["Checkpoints", "Watchers", "build_bundle", "check_disk_space", "fitness_after", "open_watchers"]

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Watchers:
    """The handlers that monitor a run and have state to save; only the first process has more than the metrics."""

    metrics: MetricsLog
    validation: Validation | None = None
    health: Health | None = None

    def __iter__(self) -> Iterator[MetricsLog | Validation | Health]:
        """Yield the existing ones, in the order in which they are called after a step."""
        yield from (watcher for watcher in (self.metrics, self.validation, self.health) if watcher is not None)

    @property
    def description(self) -> str:
        """A description of the chosen weights; only the first process, which logs it, has one."""
        return "" if self.validation is None else self.validation.description

    def state_dict(self) -> dict[str, Any]:
        """Return the state of each."""
        state = {"metrics": self.metrics.state_dict()}
        if self.health is not None and self.validation is not None:
            state |= {"health": self.health.state_dict(), "validation": self.validation.state_dict()}
        return state

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Restore the state that :meth:`state_dict` returned in the first process."""
        self.metrics.load_state_dict(state["metrics"], device)
        if self.health is not None and self.validation is not None:
            self.health.load_state_dict(state["health"])
            self.validation.load_state_dict(state["validation"])


def open_watchers(state: RunState, plan: Plan, step: CycleGANStep, trackers: Sequence[Tracker]) -> Watchers:
    """Build the watchers of a run for this process."""
    metrics = MetricsLog(state.folder.metrics, plan, step, trackers)
    if not step.ranks.first:
        return Watchers(metrics)
    return Watchers(metrics, Validation(plan, step, metrics), Health(plan, step, metrics, state))


def check_disk_space(run: RunFolder, step: CycleGANStep) -> None:
    """Raise :class:`~medcyclegan.errors.WriteError` if the disk lacks space for one more checkpoint and its model.

    It is called before the first step. A checkpoint holds every weight and Adam's two moments of it.
    """
    weights = sum(p.numel() * p.element_size() for p in step.networks.parameters())
    check_space(run.checkpoints, 4 * weights, "a checkpoint with its model")


class Checkpoints:
    """Saves at the configured intervals, after the last step, and after a stop signal, which then ends the run.

    ``state.step`` becomes the step of the last checkpoint. Networks with NaN or infinite weights are not saved: an
    error is raised and the previous checkpoint stays. A run also saves and ends after step ``pause_after``. With
    several processes, all take part, a signal to one stops all, and the first one writes.
    """

    def __init__(
        self,
        state: RunState,
        plan: Plan,
        step: CycleGANStep,
        watchers: Watchers,
        stop: StopSignals,
        pause_after: int | None = None,
    ) -> None:
        self._run = state.folder
        self._state = state
        self._plan = plan
        self._step = step
        self._watchers = watchers
        self._stop = stop
        self._pause_after = pause_after

    def attach(self, engine: Engine) -> None:
        """Save after the steps of ``engine``, and end it after a signal."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._save_if_due)

    def _save_if_due(self, engine: Engine) -> None:
        step = engine.state.iteration
        self._stop.at_once = False
        told_to_stop = self._step.ranks.any(self._stop.received is not None)
        pausing = step == self._pause_after
        if told_to_stop or pausing or self._plan.is_due(step, self._plan.checkpoint_every):
            self.save(step)
        if told_to_stop:
            self._stop.received = self._stop.received or "a signal to another process"
            # torchrun kills the other processes soon after one has ended: all wait until the first one has written.
            self._step.ranks.any(False)
        if told_to_stop or pausing:
            engine.terminate()

    def save(self, step: int) -> None:
        """Save the state after ``step`` steps: the checkpoint, then the model, then ``run.json``."""
        self._watchers.metrics.check_finite(step)
        if not all(bool(torch.isfinite(p).all()) for p in self._step.networks.parameters()):
            raise TrainingError(
                f"step {step}: weights became NaN or infinite and are not saved: start again with a lower "
                "training.learning_rate, or with training.precision=fp32"
            )
        training = self._plan.config.training
        state = {
            "config": self._plan.config.model_dump(mode="json"),
            **self._watchers.state_dict(),
            **step_state(self._step),
        }
        self._state.step = step
        if not self._step.ranks.first:
            return
        path = save_checkpoint(self._run.checkpoints, step, state, keep=training.keep_last)
        self.save_model(step)
        self._state.save()
        log.debug("saved %s", path)

    def save_model(self, step: int) -> None:
        """Write the model folder after ``step`` steps: the best weights so far, and the last ones in another folder."""
        if not self._step.ranks.first:
            return
        last = build_bundle(self._plan, self._step, step, fitness_after(step, self._plan, self._watchers))
        best = self._watchers.validation.best if self._watchers.validation is not None else None
        if best is None:
            last.save(self._run.model, overwrite=True)
            return
        choice = {"key_metric": self._plan.config.validation.key_metric, "value": best["value"]}
        fitness = fitness_after(best["step"], self._plan, self._watchers)
        provenance = {**last.provenance, "steps": best["step"], "chosen_by": choice, "fitness": fitness.to_dict()}
        if self._plan.pairs is not None:
            provenance["pairs"] = self._plan.pairs.describe(best["step"])
        chosen = dataclasses.replace(last, weights=best["weights"], provenance=provenance)
        chosen.save(self._run.model, overwrite=True)
        last.save(self._run.model_last, overwrite=True)


def fitness_after(steps_done: int, plan: Plan, watchers: Watchers) -> Fitness:
    """Return the fitness of the generators after ``steps_done`` steps of this run."""
    health, validation = watchers.health, watchers.validation
    check = None if health is None else health.check_at(steps_done)
    # "contrast inversion AB" is about synthetic B, "saturated discriminator A" about A.
    domains = dict(zip(("AB", "BA", "A", "B"), (*plan.domains[::-1], *plan.domains), strict=True))
    warnings = []
    for warning in health.warnings_at(steps_done) if health is not None else ():
        name, _, about = warning["name"].rpartition(" ")
        warnings.append(ModelWarning(name, domains[about], warning["step"], warning["message"]))
    scores = {} if validation is None else validation.scores_at(steps_done)
    # Patients that were drawn during the training are not in the store.
    drawn = {} if plan.pairs is None else plan.pairs.describe(steps_done)
    patients = {
        name: drawn.get("patients", len({row.patient for row in rows}))
        for name, rows in zip(plan.domains, plan.training, strict=True)
    }
    return Fitness(
        steps=steps_done + (plan.initial.steps if plan.initial is not None else 0),
        patients=patients,
        learned=None if check is None or plan.pairs is not None else check.learned,
        warnings=tuple(warnings),
        scores=scores,
        input_scores=validation.input_scores if validation is not None and scores else {},
    )


def build_bundle(plan: Plan, step: CycleGANStep, steps_done: int, fitness: Fitness | None = None) -> ModelBundle:
    """Return the networks as a model in float32, with everything that translation needs.

    ``fitness`` is left out before the first step, when the bundle is only checked.
    """
    domains = []
    for name, rows in zip(plan.domains, plan.training, strict=True):
        # The plan guarantees that there is at most one.
        modality = next((row.modality for row in rows if row.modality is not None), None)
        domains.append(DomainModel(name, modality, target_scaling(rows), plan.config.domains[name].scaling))
    slicing = plan.config.slicing
    return ModelBundle(
        domains=(domains[0], domains[1]),
        preparation=Preparation(slicing.size, slicing.fit, slicing.pixel_mm),
        generator=plan.config.networks.generator,
        weights={
            "G_AB": weights_of(step.model.G_AB),
            "G_BA": weights_of(step.model.G_BA),
        },
        provenance={
            "config": plan.config.model_dump(mode="json"),
            "steps": steps_done,
            "planned_steps": plan.steps,
            "training_slices": dict(zip(plan.domains, plan.slices, strict=True)),
            "training_volumes": {n: len(rows) for n, rows in zip(plan.domains, plan.training, strict=True)},
            "training_set": plan.training_sets,
            "patients": dict(plan.patients),
            "slices_sha256": plan.fingerprint,
            "precision": step.precision,
            **({} if plan.pairs is None else {"pairs": plan.pairs.describe(steps_done)}),
            "init_from": plan.initial.fingerprint if plan.initial is not None else None,
            **({} if fitness is None else {"fitness": fitness.to_dict()}),
        },
    )
