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
from medcyclegan.training.plan import Plan
from medcyclegan.training.run_folder import RunFolder
from medcyclegan.training.step import CycleGANStep

__all__ = ["announce", "check_config", "new_record", "session"]

log = logging.getLogger(__name__)


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


@contextlib.contextmanager
def session(run: RunFolder, record: dict[str, Any], step: CycleGANStep, first: int) -> Iterator[None]:
    """Keep ``run.json`` up to date: what this session runs on and how it ended."""
    on = torch.cuda.get_device_name(step.device) if step.device.type == "cuda" else step.device.type
    entry: dict[str, Any] = {"started": now(), "first_step": first, "device": on, "precision": step.precision}
    entry |= {"threads": torch.get_num_threads(), "versions": versions()}
    record["sessions"].append(entry)
    record.update(state="running", step=first)
    record.pop("reason", None)
    run.save_record(record)
    started = time.monotonic()
    try:
        yield
    except BaseException as error:
        if record["state"] == "running":
            record.update(state="failed", reason=f"{type(error).__name__}: {error}")
        raise
    finally:
        seconds = time.monotonic() - started
        entry |= {"ended": now(), "last_step": record["step"], "seconds": round(seconds, 3)}
        run.save_record(record)


def check_config(config: Config, saved: dict[str, Any], run: RunFolder) -> None:
    """Refuse a configuration that was edited since the checkpoint where the training depends on it."""
    free = ("panel_every", "log_every", "checkpoint_epochs", "checkpoint_steps", "keep_last")
    before, after = dict(_flatten(saved)), dict(_flatten(config.model_dump(mode="json")))
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) == after.get(key):
            continue
        change = f"{key} was {before.get(key)} at the checkpoint and is {after.get(key)} now"
        if not (key.startswith("validation.") or key.removeprefix("training.") in free):
            raise TrainingError(f"{run.path / 'config.yaml'}: {change}: put it back, or start a new run")
        log.info("%s: %s", run.path / "config.yaml", change)


def _flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def announce(run: RunFolder, plan: Plan, step: CycleGANStep, first: int) -> None:
    """Say at once what is trained, for how long, on what."""
    (a, b), (slices_a, slices_b) = plan.domains, plan.slices
    log.info(
        "training %s to %s and back on %d and %d slices: %d steps of %d + %d slices, %.4g epochs, on %s in %s, into %s",
        *(a, b, slices_a, slices_b, plan.steps, plan.config.training.batch_size, plan.config.training.batch_size),
        *(plan.steps / plan.epoch_length, step.device, step.precision, run.path),
    )
    if first:
        log.info("going on after step %d", first)
    if step.device.type == "cpu":
        log.info("a CPU is slow at this: --config demo trains in minutes, --config smoke in seconds")
