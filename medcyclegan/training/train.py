"""Train a model on a slice store, in a run folder from which training can always be resumed."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from medcyclegan.config import Config, load_config, parse_config
from medcyclegan.errors import TrainingError, UsageError
from medcyclegan.manifest import load_manifest
from medcyclegan.model.bundle import ModelBundle
from medcyclegan.slicing.check import report_check
from medcyclegan.training.monitor.metrics_log import drop_rows_after
from medcyclegan.training.monitor.panels import Panels
from medcyclegan.training.monitor.time_left import TimeLeft
from medcyclegan.training.monitor.trackers import mlflow_handlers, open_trackers
from medcyclegan.training.plan import InitialModel, Plan, build_plan
from medcyclegan.training.run.build import build_networks_and_step
from medcyclegan.training.run.checkpoint import check_state, load_newest_checkpoint, restore_step
from medcyclegan.training.run.engine import run_engine
from medcyclegan.training.run.folder import RunFolder, find_run, point_latest_at
from medcyclegan.training.run.init_from import initial_model, steps_behind
from medcyclegan.training.run.saving import Checkpoints, check_disk_space, open_watchers
from medcyclegan.training.run.session import announce, check_config, session_entry
from medcyclegan.training.run.shipped_start import default_start, shipped_start
from medcyclegan.training.run.signals import StopSignals
from medcyclegan.training.run.state import RunState
from medcyclegan.training.schedule import LearningRate
from medcyclegan.training.seeds import find_best_seed, steps_of_trial
from medcyclegan.training.update.distributed import Ranks, joined, own_device
from medcyclegan.training.update.step import CycleGANStep

__all__ = [
    "Place",
    "continue_run",
    "from_first",
    "locked",
    "start_run",
    "stopping_before_the_run",
    "train",
    "with_initial",
    "with_steps",
]

log = logging.getLogger(__name__)


def train(
    slices: str | Path | None = None,
    *,
    config: Config | None = None,
    domains: Sequence[str] | None = None,
    out: str | Path = "runs",
    max_steps: int | None = None,
    device: str = "auto",
    resume: str | Path | Literal[True] | None = None,
    init_from: str | Path | None = None,
    seeds: int = 1,
) -> Path:
    """Train a CycleGAN on the slice store ``slices`` (default: ``slices/``); return the run's folder.

    ``config``: networks, losses and schedule (default: ``cpu``, which continues a shipped model, if one fits the
    slices, else ``default``). ``domains``: the names of A and B (default: the store's two, in alphabetical order).
    The run's folder is ``out/<date>-<time>``, to which ``out/latest`` points; it holds ``config.yaml``,
    ``metrics.jsonl``, ``panels/``, ``checkpoints/``, ``model/`` (from the first checkpoint on) and ``run.json``.
    ``max_steps`` replaces the number of epochs. If volumes are held out, ``model/`` has the weights that validated best
    by ``validation.key_metric``, and ``model-last/`` those of the last checkpoint.

    ``resume``: continue a run (a folder, or True for ``out/latest``) with its own configuration from its last intact
    checkpoint, or from step 0 if it has none. On the CPU the weights are bit-identical to those of an uninterrupted run
    with the same number of threads. A finished run is left unchanged, unless its ``config.yaml`` was given more steps.

    ``init_from``: the model (folder or name) whose generators the run starts with; its discriminators are new.
    ``"auto"``, the default without ``config``: a shipped model if one fits (:func:`shipped_start`); ``"none"``: none.
    ``seeds``: train this number of runs for a quarter of the steps, and continue the one whose contrasts agree best
    with real slices (:mod:`medcyclegan.training.seeds`). The result is that of a single run with its seed.

    Under ``torchrun``, every process calls this function; the first one writes. SIGTERM, SIGUSR1 and Ctrl-C save a
    checkpoint after the current step; before the end of a session's first step, and at a second Ctrl-C, they stop
    immediately: :class:`~medcyclegan.errors.TrainingError` is raised, whose message explains how to continue. Raises
    :class:`~medcyclegan.errors.StoreError` and :class:`~medcyclegan.errors.ConfigError` for what cannot be trained.
    """
    if resume is not None and (config, domains, max_steps, init_from, seeds) != (None, None, None, None, 1):
        raise UsageError(
            "a resumed run keeps its own configuration, domains and steps: leave --config, --set, --domains, "
            "--max-steps, --init-from and --seeds out (you may edit the run's config.yaml), or start a new run"
        )
    where = own_device(device)
    with joined(where) as ranks, StopSignals() as stop, stopping_before_the_run(stop):
        place = Place(where, ranks, stop)
        if resume is not None:
            return _resume(Path(out) / "latest" if resume is True else Path(resume), slices, place)
        store = Path(slices or "slices")
        if config is None:
            named, init_from = default_start(store, domains, init_from)
            config = load_config(named)
        return _start(build_plan(store, with_steps(config, max_steps), domains), Path(out), place, init_from, seeds)


def _start(plan: Plan, out: Path, place: Place, init_from: str | Path | None, seeds: int) -> Path:
    """Start one run, or several of which the best is continued."""
    ranks = place.ranks
    if ranks.first:
        rows = [row for row in load_manifest(plan.store) if row.domain in plan.domains]
        report_check(plan.store, rows, measured=("train", "validation"))
    if init_from == "auto":
        init_from = ranks.from_first((shipped_start(plan) or "") if ranks.first else "") or None
    initial = None if init_from in (None, "none") else ModelBundle.load(init_from)
    if seeds == 1:
        return start_run(plan, out, place, initial)
    pause = steps_of_trial(plan)
    best = find_best_seed(plan, seeds, lambda trial: start_run(trial, out, place, initial, pause_after=pause), ranks)
    log.info("continuing %s, the best of %d seeds", best, seeds)
    if ranks.first:
        point_latest_at(best)
    return _resume(best, plan.store, place)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a run is trained: on which device, by which processes, and what stops it."""

    device: torch.device
    ranks: Ranks
    stop: StopSignals


def start_run(
    plan: Plan,
    out: Path,
    place: Place,
    initial: ModelBundle | None,
    *,
    with_store: bool = False,
    pause_after: int | None = None,
) -> Path:
    """Create a run's folder under ``out`` and train ``plan`` from the first step to the last; return the folder.

    ``initial``: the model with whose generators the run starts. ``with_store``: whether the plan's slice store
    becomes part of the run's folder. ``pause_after``: the step after which the run stops, to be resumed later.
    """
    plan = with_initial(plan, initial)
    step = build_networks_and_step(plan, place.device, place.ranks, initial)

    def create() -> Path:
        path = RunState.create(plan, out, plan.store if with_store else None).folder.path
        return path if initial is None else initial.save(path / "initial").parent

    run = RunFolder(from_first(create, place.ranks))
    if with_store:
        plan = dataclasses.replace(plan, store=run.reference)
    with locked(run, place.ranks):
        return continue_run(RunState.load(run), plan, step, place.stop, pause_after)


def _resume(path: Path, slices: str | Path | None, place: Place) -> Path:
    ranks = place.ranks
    run = RunFolder(from_first(lambda: find_run(path).path, ranks))
    with locked(run, ranks):
        state, config = RunState.load(run), run.load_config()
        if state.pairs is not None:
            raise TrainingError(
                f"{run.path} is a run of pretrain: continue it with medcyclegan pretrain --resume {run.path}"
            )
        if state.is_complete(config):
            log.info("%s is finished after %d steps: there is nothing left to do", run.path, state.step)
            return run.path
        store = Path(slices) if slices is not None else state.store
        initial = initial_model(state)
        plan = with_initial(build_plan(store, config, state.domains), initial)
        if plan.fingerprint != state.fingerprint:
            raise TrainingError(
                f"{store} has changed since {run.path} was started, so its samples would differ: start a new run, "
                "or name the original store with --slices"
            )
        return continue_run(state, plan, build_networks_and_step(plan, place.device, ranks, initial), place.stop)


def with_initial(plan: Plan, initial: ModelBundle | None) -> Plan:
    """Return ``plan`` with the model whose generators the run starts with."""
    if initial is None:
        return plan
    return dataclasses.replace(plan, initial=InitialModel(initial.fingerprint, steps_behind(initial)))


def from_first(make: Callable[[], Path], ranks: Ranks) -> Path:
    """Create a path in the first process and return it in every process."""
    return Path(ranks.from_first(str(make()) if ranks.first else ""))


@contextlib.contextmanager
def locked(run: RunFolder, ranks: Ranks) -> Iterator[None]:
    """Lock the run in the first process; the others wait until it is locked."""
    with run.lock() if ranks.first else contextlib.nullcontext():
        ranks.any(False)
        yield


def continue_run(
    state: RunState, plan: Plan, step: CycleGANStep, stop: StopSignals, pause_after: int | None = None
) -> Path:
    """Train a run, whose lock is held, from its last checkpoint to its last step, or to ``pause_after``."""
    run, is_first = state.folder, step.ranks.first
    # If one of several processes stopped, the others would wait for it: they stop together, after a step.
    stop.at_once = step.ranks.world_size == 1
    with _stopping_at_once(state, plan, stop), contextlib.ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng([step.device] if step.device.type == "cuda" else []))
        # Each process needs a different dropout.
        torch.manual_seed(plan.config.seed + (step.ranks.rank << 32))
        checkpoint = _restore(run, plan, step)
        first = 0 if checkpoint is None else int(checkpoint["step"])
        trackers = stack.enter_context(open_trackers(run.path / "tensorboard", first)) if is_first else []
        watchers = open_watchers(state, plan, step, trackers)
        if checkpoint is not None:
            watchers.load_state_dict(checkpoint, step.device)
        state.set_plan(plan)
        if is_first:
            drop_rows_after(run.metrics, first)
            metrics = watchers.metrics
            stack.enter_context(
                state.session(
                    first,
                    session_entry(step, first),
                    lambda: {"data_wait": round(metrics.data_wait, 6), "cuda_graphs": step.captured},
                )
            )
            announce(run, plan, step, first)
            check_disk_space(run, step)
        checkpoints = Checkpoints(state, plan, step, watchers, stop, pause_after)
        if first < plan.steps:
            handlers = [LearningRate(plan, step), *watchers]
            handlers += [Panels(run.panels, plan, step, trackers), TimeLeft(plan, step.device)] if is_first else []
            handlers.append(checkpoints)
            handlers += mlflow_handlers(run.path.name, plan, lambda: watchers.metrics.last) if is_first else []
            run_engine(plan, step, first, handlers, watchers.metrics)
        else:
            checkpoints.save_model(first)
        if state.step < plan.steps:
            state.set_stopped()
            if stop.received is None:
                return run.path
            raise TrainingError(
                f"stopped by {stop.received} after step {state.step} of {plan.steps}; everything is saved: continue "
                f"with medcyclegan {plan.command} --resume {run.path}"
            )
        state.set_finished(plan.steps)
    log.info("finished after %d steps: the model is %s, %s", plan.steps, run.model, watchers.description)
    return run.path


def _restore(run: RunFolder, plan: Plan, step: CycleGANStep) -> dict[str, Any] | None:
    """Restore ``step`` from the newest checkpoint of ``run`` and return the checkpoint; None if there is none."""
    checkpoint = load_newest_checkpoint(run.checkpoints)
    if checkpoint is not None:
        check_state(checkpoint)
        check_config(plan, checkpoint, run)
        restore_step(step, checkpoint)
    return checkpoint


@contextlib.contextmanager
def _stopping_at_once(state: RunState, plan: Plan, stop: StopSignals) -> Iterator[None]:
    """Turn an interruption in the middle of a step into an error that explains how to continue."""
    try:
        yield
    except KeyboardInterrupt:
        raise TrainingError(
            f"stopped by {stop.name} without saving; the last checkpoint is of step {state.step} of {plan.steps}: "
            f"continue with medcyclegan {plan.command} --resume {state.folder.path}"
        ) from None


@contextlib.contextmanager
def stopping_before_the_run(stop: StopSignals) -> Iterator[None]:
    """Turn an interruption before the run has started into an error of one line."""
    try:
        yield
    except KeyboardInterrupt:
        raise TrainingError(f"stopped by {stop.name} before the first step: nothing was trained") from None


def with_steps(config: Config, max_steps: int | None) -> Config:
    """Return ``config`` with ``max_steps`` steps; None: unchanged."""
    if max_steps is None:
        return config
    if max_steps < 1:
        raise UsageError(f"--max-steps {max_steps}: at least 1 step is needed")
    values = config.model_dump(mode="json")
    values["training"]["max_steps"] = max_steps
    return parse_config(values, "--max-steps")
