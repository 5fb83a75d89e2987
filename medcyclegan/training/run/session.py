"""One session of a run: what is said at its start, what ``run.json`` keeps of it."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from medcyclegan.config import Config
from medcyclegan.errors import TrainingError
from medcyclegan.provenance import now, versions
from medcyclegan.training.monitor.metrics_log import MetricsLog
from medcyclegan.training.plan import Plan
from medcyclegan.training.run.folder import RunFolder
from medcyclegan.training.update.step import CycleGANStep

__all__ = ["announce", "check_config", "is_complete", "new_record", "session"]

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


def new_record(plan: Plan, out: Path) -> dict[str, Any]:
    """Return ``run.json`` as it is before the first step of a run in a folder under ``out``.

    ``slices`` is the way from that folder to the store, so that a workspace can be moved.
    """
    return {
        "state": "running",
        "step": 0,
        "steps": plan.steps,
        "epoch_length": plan.epoch_length,
        "seed": plan.config.seed,
        "domains": list(plan.domains),
        "training_slices": dict(zip(plan.domains, plan.slices, strict=True)),
        "slices": os.path.relpath(plan.store.resolve(), out.resolve() / "run"),
        "fingerprint": plan.fingerprint,
        "sessions": [],
    }


def is_complete(record: dict[str, Any], config: Config, run: RunFolder) -> bool:
    """Return whether a run is finished and its configuration asks for no more steps, and say so."""
    steps = config.training.max_steps or config.training.epochs * int(record.get("epoch_length", 0))
    if record["state"] != "finished" or steps > record["steps"]:
        return False
    log.info("%s is finished, %d of %d steps: nothing is left to do", run.path, record["step"], record["steps"])
    return True


@contextlib.contextmanager
def session(
    run: RunFolder, record: dict[str, Any], step: CycleGANStep, metrics: MetricsLog, first: int
) -> Iterator[None]:
    """Keep ``run.json`` up to date: what this session runs on and how it ended."""
    on = torch.cuda.get_device_name(step.device) if step.device.type == "cuda" else step.device.type
    entry: dict[str, Any] = {"started": now(), "first_step": first, "device": on, "precision": step.precision}
    entry |= {"threads": torch.get_num_threads(), "processes": step.processes.world, "versions": versions()}
    entry["compiled"] = step.compiled
    _note_interruption(record)
    _compare_sessions(record["sessions"], entry)
    record["sessions"].append(entry)
    record.update(state="running", step=first)
    record.pop("reason", None)
    run.save_record(record)
    started = time.monotonic()
    try:
        yield
    except KeyboardInterrupt:
        record.update(state="stopped", reason="interrupted at once, in the middle of a step")
        raise
    except BaseException as error:
        if record["state"] == "running":
            record.update(state="failed", reason=f"{type(error).__name__}: {error}")
        raise
    finally:
        seconds = time.monotonic() - started
        entry |= {"ended": now(), "last_step": record["step"], "seconds": round(seconds, 3)}
        entry |= {"data_wait": round(metrics.data_wait, 6), "recorded": step.recorded}
        run.save_record(record)


def _note_interruption(record: dict[str, Any]) -> None:
    """Say, and keep in the record, that the session before ended without recording how.

    The caller holds the run, so no process trains it that the record could mean by ``running``.
    """
    if record["state"] == "running" and record["sessions"]:
        record["sessions"][-1]["interrupted"] = True
        log.warning(
            "the last session of this run was interrupted without a message: its process was killed, perhaps because "
            "memory ran out"
        )


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


def _compare_sessions(before: list[dict[str, Any]], now: dict[str, Any]) -> None:
    """Say what a resumed run computes differently, so that its weights are not those of an unbroken run to the bit."""
    if before:
        last, torches = before[-1], [entry.get("versions", {}).get("torch") for entry in (before[-1], now)]
        changes = [
            f"{name} {last[name]}, now {now[name]}"
            for name in ("device", "precision", "threads", "processes", "compiled")
            if last.get(name, now[name]) != now[name]
        ]
        if torches[0] != torches[1]:
            changes.append(f"torch {torches[0]}, now {torches[1]}")
        if changes:
            log.info("computed otherwise than before (%s): equal up to rounding, not to the bit", "; ".join(changes))


def _flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def announce(run: RunFolder, plan: Plan, step: CycleGANStep, first: int) -> None:
    """Say at once what is trained, for how long, on what."""
    (a, b), (slices_a, slices_b) = plan.domains, plan.slices
    world = step.processes.world
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
