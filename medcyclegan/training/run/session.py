"""The start of a training session: its log lines, its entry in ``run.json``, and accepted edits of ``config.yaml``."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch

from medcyclegan.errors import TrainingError
from medcyclegan.provenance import now, versions
from medcyclegan.training.plan import Plan
from medcyclegan.training.run.folder import RunFolder
from medcyclegan.training.update.step import CycleGANStep

__all__ = ["announce", "check_config", "session_entry"]

log = logging.getLogger(__name__)

#: Settings that may change between sessions: when to log and save, where slices are stored. No weight depends on them.
_FREE = (
    "training.panel_every",
    "training.log_every",
    "training.checkpoint_epochs",
    "training.checkpoint_steps",
    "training.keep_last",
    "training.slices_on_device",
    "training.cuda_graphs",
    "training.memory_check",
    "pretraining.key_metric",
    "pretraining.workers",
)
_STEPS = ("training.epochs", "training.max_steps")


def session_entry(step: CycleGANStep, first: int) -> dict[str, Any]:
    """Return the entry in ``run.json`` of a session that starts after step ``first``."""
    on = torch.cuda.get_device_name(step.device) if step.device.type == "cuda" else step.device.type
    return {
        "started": now(),
        "first_step": first,
        "device": on,
        "precision": step.precision,
        "threads": torch.get_num_threads(),
        "processes": step.ranks.world_size,
        "versions": versions(),
        "compiled": step.compiled,
    }


def check_config(plan: Plan, state: dict[str, Any], run: RunFolder) -> None:
    """Log what was edited in ``config.yaml`` since the checkpoint, and refuse edits that the steps so far depend on.

    Settings for validating, logging, saving and storing slices may change, and so may the number of steps if the
    learning rate does not depend on it. Raises :class:`~medcyclegan.errors.TrainingError` naming every change
    that is refused.
    """
    before = dict(_flatten(state["config"]))
    after = dict(_flatten(plan.config.model_dump(mode="json")))
    refused = []
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) == after.get(key):
            continue
        change = f"{key} was {before.get(key)} at the checkpoint and is {after.get(key)} now"
        if key in _STEPS and plan.config.training.schedule == "constant":
            pass
        elif key in _STEPS:
            refused.append(
                f"{change} (schedule {plan.config.training.schedule}: the learning rate of every step depends on it)"
            )
            continue
        elif not (key.startswith("validation.") or key in _FREE):
            refused.append(change)
            continue
        log.info("%s: %s", run.path / "config.yaml", change)
    if refused:
        raise TrainingError(f"{run.path / 'config.yaml'}: {'; '.join(refused)}: put it back, or start a new run")
    if plan.steps < state["step"]:
        raise TrainingError(
            f"{run.path / 'config.yaml'}: {plan.steps} steps, but {state['step']} are done: set more steps, or use "
            f"{run.model} as it is"
        )


def _flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def announce(run: RunFolder, plan: Plan, step: CycleGANStep, first: int) -> None:
    """Log what is trained, for how many steps, on which device and into which folder."""
    (a, b), (slices_a, slices_b) = plan.domains, plan.slices
    world = step.ranks.world_size
    log.info(
        "training %s to %s and back on %d and %d slices: %d steps of %d + %d slices, %.4g epochs, on %s in %s, into %s",
        *(a, b, slices_a, slices_b, plan.steps, plan.config.training.batch_size, plan.config.training.batch_size),
        *(plan.steps / plan.epoch_length, _describe_device(step.device), step.precision, run.path),
    )
    if world > 1:
        log.info("%d processes divide each batch: %d slices each", world, plan.config.training.batch_size // world)
    if plan.pairs is not None:
        log.info("supervised, on pairs of slices %s", plan.pairs.description)
    if first:
        log.info("continuing after step %d", first)


def _describe_device(device: torch.device) -> str:
    return "cpu (no CUDA device)" if device.type == "cpu" and not torch.cuda.is_available() else str(device)
