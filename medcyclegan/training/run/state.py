"""The state of a run, stored in ``run.json``. No other code reads or changes that file's entries."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from medcyclegan.config import Config
from medcyclegan.errors import ReadError, TrainingError
from medcyclegan.provenance import now
from medcyclegan.run_record import RECORD_FILE, load_run_record
from medcyclegan.storage import atomic_write
from medcyclegan.training.plan import Plan
from medcyclegan.training.run.folder import REFERENCE, RunFolder, create_run

__all__ = ["RunState"]

log = logging.getLogger(__name__)

#: A run without these entries cannot be continued.
_REQUIRED = {"state", "step", "steps", "epoch_length", "domains", "slices", "fingerprint", "init_from", "sessions"}


class RunState:
    """The state of a run: its progress, the slices that it is trained on, and the result of each session.

    Every process of a training holds one; only the first process saves it.
    """

    def __init__(self, folder: RunFolder, record: dict[str, Any]) -> None:
        self.folder = folder
        self._record = record

    @classmethod
    def create(cls, plan: Plan, out: Path, reference: Path | None = None) -> RunState:
        """Create the folder of a new run under ``out``, with its configuration and its state before the first step.

        ``reference``: the plan's slice store, if it becomes part of the run's folder.
        Raises :class:`~medcyclegan.errors.WriteError` if that cannot be written.
        """
        record = _first_record(plan, out)
        if reference is not None:
            record["slices"] = REFERENCE
        return cls(create_run(out, plan.config, _to_json(record), reference), record)

    @classmethod
    def load(cls, folder: RunFolder) -> RunState:
        """Read the state of an existing run; raises :class:`~medcyclegan.errors.TrainingError` if it has none."""
        try:
            record = load_run_record(folder.path)
        except ReadError as error:
            raise TrainingError(error) from None
        if not record.keys() >= _REQUIRED:
            raise TrainingError(f"{folder.path / RECORD_FILE} is not that of a training run: name a folder under runs/")
        return cls(folder, record)

    def save(self) -> None:
        """Write ``run.json``."""
        with atomic_write(self.folder.path / RECORD_FILE) as file:
            file.write(_to_json(self._record))

    @property
    def step(self) -> int:
        """The step of the last checkpoint."""
        return int(self._record["step"])

    @step.setter
    def step(self, step: int) -> None:
        self._record["step"] = step

    @property
    def domains(self) -> tuple[str, str]:
        """The names of A and B."""
        a, b = self._record["domains"]
        return a, b

    @property
    def fingerprint(self) -> str:
        """The hash of the training rows with which the run was started."""
        return str(self._record["fingerprint"])

    @property
    def store(self) -> Path:
        """The slice store that the run was started with, found from the run's folder."""
        return Path(os.path.relpath(self.folder.path.resolve() / self._record["slices"]))

    @property
    def pairs(self) -> dict[str, Any] | None:
        """The source of the pairs of a pretraining, as :class:`~medcyclegan.training.plan.PairSource` recorded it.

        None for a run of ``train``.
        """
        pairs: dict[str, Any] | None = self._record.get("pairs")
        if pairs is not None and not (isinstance(pairs, dict) and "kind" in pairs):
            raise TrainingError(
                f"{self.folder.path / RECORD_FILE}: its pairs cannot be read: copy the run's folder again"
            )
        return pairs

    @property
    def has_initial_model(self) -> bool:
        """Whether the run started with the generators of another model."""
        return self._record["init_from"] is not None

    def is_complete(self, config: Config) -> bool:
        """Return whether the run is finished and ``config`` has no more steps."""
        steps = config.training.max_steps or config.training.epochs * int(self._record["epoch_length"])
        return bool(self._record["state"] == "finished" and steps <= self._record["steps"])

    def set_plan(self, plan: Plan) -> None:
        """Set the numbers of steps and the seed: all of config.yaml may be edited until the first checkpoint."""
        self._record.update(steps=plan.steps, epoch_length=plan.epoch_length, seed=plan.config.seed)

    def set_health(self, warnings: Sequence[dict[str, Any]], last_check: int | None) -> None:
        """Set the health warnings so far, and the step of the last health check."""
        self._record["health"] = {"warnings": list(warnings), "last_check": last_check}

    def set_stopped(self) -> None:
        """Record that a signal ended the run after its last checkpoint."""
        self._record["state"] = "stopped"

    def set_finished(self, steps: int) -> None:
        """Record that all steps are done."""
        self._record.update(state="finished", step=steps)

    @contextlib.contextmanager
    def session(self, first: int, entry: dict[str, Any], measured: Callable[[], dict[str, Any]]) -> Iterator[None]:
        """Keep ``run.json`` up to date during one session that starts after step ``first``.

        ``entry`` describes the session's device and software; ``measured`` returns the entries added when it ends.
        """
        self._note_interruption()
        self._compare_sessions(entry)
        self._record["sessions"].append(entry)
        self._record.update(state="running", step=first)
        self._record.pop("reason", None)
        self.save()
        started = time.monotonic()
        try:
            yield
        except KeyboardInterrupt:
            self._record.update(state="stopped", reason="interrupted immediately, in the middle of a step")
            raise
        except BaseException as error:
            if self._record["state"] == "running":
                self._record.update(state="failed", reason=f"{type(error).__name__}: {error}")
            raise
        finally:
            seconds = time.monotonic() - started
            entry |= {"ended": now(), "last_step": self.step, "seconds": round(seconds, 3), **measured()}
            self.save()

    def _note_interruption(self) -> None:
        """Warn and record that the previous session ended without recording a reason.

        The caller holds the run's lock, so no other process is training it.
        """
        if self._record["state"] == "running" and self._record["sessions"]:
            self._record["sessions"][-1]["interrupted"] = True
            log.warning(
                "the last session of this run was interrupted without a message: its process was killed, perhaps "
                "because memory ran out"
            )

    def _compare_sessions(self, entry: dict[str, Any]) -> None:
        """Log changes of device or software, which make the weights differ from an uninterrupted run's by rounding."""
        if not self._record["sessions"]:
            return
        last = self._record["sessions"][-1]
        changes = [
            f"{name} {last[name]}, now {entry[name]}"
            for name in ("device", "precision", "threads", "processes", "compiled")
            if last.get(name, entry[name]) != entry[name]
        ]
        before, after = (session.get("versions", {}).get("torch") for session in (last, entry))
        if before != after:
            changes.append(f"torch {before}, now {after}")
        if changes:
            log.info(
                "computed differently from the last session (%s): equal up to rounding, not bit for bit",
                "; ".join(changes),
            )


def _first_record(plan: Plan, out: Path) -> dict[str, Any]:
    """Return the state before the first step; ``slices`` is relative to the run's folder, so that both can be moved."""
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
        # keyed hashes, so that the runs to delete are found when a patient is removed from the store
        "cases": {
            split: {name: [row.case for row in rows] for name, rows in zip(plan.domains, both, strict=True)}
            for split, both in (("train", plan.training), ("validation", plan.held_out))
        },
        "sessions": [],
        "init_from": plan.initial.fingerprint if plan.initial is not None else None,
        **({} if plan.pairs is None else {"pairs": plan.pairs.to_record(out.resolve() / "run")}),
    }


def _to_json(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, indent=2) + "\n").encode()
