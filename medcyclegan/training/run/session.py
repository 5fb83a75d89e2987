"""The start of a session: what it logs and records, and which edits of ``config.yaml`` it accepts."""

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

#: What may change between sessions: it says when to look and to save, or where the slices lie; no weight depends on it.
_FREE = tuple(
    f"training.{name}"
    for name in (
        "panel_every",
        "log_every",
        "checkpoint_epochs",
        "checkpoint_steps",
        "keep_last",
        "slices_on_device",
        "cuda_graphs",
        "memory_check",
    )
)
_STEPS = ("training.epochs", "training.max_steps")


def session_entry(step: CycleGANStep, first: int) -> dict[str, Any]:
    """Return what ``run.json`` records about a session that starts after step ``first``."""
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
    """Name what was edited in ``config.yaml`` since the checkpoint, and refuse what the steps so far depend on.

    What only says when to look, log or save, or where the slices lie, is free, and so is the number of steps where
    the learning rate does not depend on it. Raises :class:`~medcyclegan.errors.TrainingError` naming every change
    that is refused.
    """
    before, after = dict(_flatten(state["config"])), dict(_flatten(plan.config.model_dump(mode="json")))
    refused = []
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) == after.get(key) or (key in _FREE and key not in before):
            continue
        change = f"{key} was {before.get(key)} at the checkpoint and is {after.get(key)} now"
        if key in _STEPS and plan.config.training.schedule == "constant":
            pass
        elif key in _STEPS:
            refused.append(
                f"{change} (schedule {plan.config.training.schedule}: the rate depends on it from step to step)"
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
            f"{run.path / 'config.yaml'}: {plan.steps} steps, but {state['step']} are done: ask for more, or take "
            f"{run.model} as it is"
        )


def _flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def announce(run: RunFolder, plan: Plan, step: CycleGANStep, first: int) -> None:
    """Say at once what is trained, for how long, on what."""
    (a, b), (slices_a, slices_b) = plan.domains, plan.slices
    world = step.ranks.world_size
    log.info(
        "training %s to %s and back on %d and %d slices: %d steps of %d + %d slices, %.4g epochs, on %s in %s, into %s",
        *(a, b, slices_a, slices_b, plan.steps, plan.config.training.batch_size, plan.config.training.batch_size),
        *(plan.steps / plan.epoch_length, step.device, step.precision, run.path),
    )
    if world > 1:
        log.info("%d processes share out each batch, %d slices each", world, plan.config.training.batch_size // world)
    if first:
        log.info("going on after step %d", first)
    if step.device.type == "cpu":
        log.info("a CPU is slow at this: --config demo trains in minutes, --config smoke in seconds")
