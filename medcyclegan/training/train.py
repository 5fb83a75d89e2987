"""``train``: slices become a model, in a run folder that can always be gone on with."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from medcyclegan.config import Config, parse_config
from medcyclegan.errors import ConfigError, TrainingError, UsageError
from medcyclegan.model.bundle import ModelBundle
from medcyclegan.networks import build_cyclegan
from medcyclegan.training.monitor.health import Health
from medcyclegan.training.monitor.metrics_log import MetricsLog, drop_rows_after
from medcyclegan.training.monitor.panels import Panels
from medcyclegan.training.monitor.time_left import TimeLeft
from medcyclegan.training.monitor.trackers import Board, mlflow_handlers, open_tensorboard
from medcyclegan.training.monitor.validation import Validation, check_key_metric
from medcyclegan.training.plan import Plan, build_plan
from medcyclegan.training.run.checkpoint import check_state, load_newest_checkpoint, restore_step
from medcyclegan.training.run.engine import run_engine
from medcyclegan.training.run.folder import RunFolder, create_run, find_run
from medcyclegan.training.run.init_from import initial_model, put_generators, steps_behind
from medcyclegan.training.run.saving import Checkpoints, Watchers, build_bundle, check_room
from medcyclegan.training.run.session import announce, check_config, is_complete, new_record, session
from medcyclegan.training.run.signals import StopSignals
from medcyclegan.training.schedule import LearningRate
from medcyclegan.training.update.compilation import compile_step
from medcyclegan.training.update.cuda_graphs import record_step
from medcyclegan.training.update.distributed import Processes, joined, own_device
from medcyclegan.training.update.precision import choose_precision
from medcyclegan.training.update.step import CycleGANStep, build_step
from medcyclegan.training.update.step_memory import check_memory

__all__ = ["train"]

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
) -> Path:
    """Train a CycleGAN on the slice store ``slices`` (default: ``slices/``); return the run's folder.

    ``config``: what to train and how (default: the ``default`` configuration). ``domains``: the names
    of A and B (default: the store's two, in alphabetical order). The run is ``out/<date>-<time>``, and
    ``out/latest`` points at it: ``config.yaml``, ``metrics.jsonl``, ``panels/``, ``checkpoints/``,
    ``model/`` (from the first checkpoint on), ``run.json``. ``max_steps`` replaces the number of
    epochs. Where volumes are held out, ``model/`` is the best validated one by
    ``validation.key_metric``, and ``model-last/`` that of the last checkpoint.

    ``resume``: go on with a run (a folder, or True for ``out/latest``) under its own configuration
    from its last whole checkpoint, or from step 0 where it has none; on the CPU the weights come out
    bit-identical to those of an uninterrupted run with the same number of threads. A finished run is
    left as it is, unless its ``config.yaml`` was given more steps.

    Started by ``torchrun``, every process calls it alike; they share out each batch, and the first one writes.

    ``init_from``: a model folder whose generators the run starts with; its discriminators are new.

    SIGTERM, SIGUSR1 and Ctrl-C save a checkpoint after the step in hand; before the end of a session's first step, when
    there is nothing to save, they stop at once, and so does a second Ctrl-C. Then, as for every expected
    failure, :class:`~medcyclegan.errors.TrainingError` is raised, whose text says how to go on (exit
    code 1 on the command line). Raises :class:`~medcyclegan.errors.StoreError` for a store that cannot
    be trained on, :class:`~medcyclegan.errors.ConfigError` for networks that do not fit its slices.
    """
    if resume is not None and not all(value is None for value in (config, domains, max_steps, init_from)):
        raise UsageError(
            "a resumed run goes on under its own configuration, domains and steps: leave --config, --set, "
            "--domains, --max-steps and --init-from out (the run's config.yaml may be edited), or start a new run"
        )
    where = own_device(device)
    with joined(where) as processes, StopSignals() as stop:
        try:
            if resume is not None:
                return _resume(Path(out) / "latest" if resume is True else Path(resume), slices, where, processes, stop)
            plan = build_plan(Path(slices or "slices"), _with_steps(config or Config(), max_steps), domains)
            return _start(plan, Path(out), where, processes, init_from, stop)
        except KeyboardInterrupt:
            raise TrainingError(f"stopped by {stop.name} before the first step: nothing was trained") from None


def _start(
    plan: Plan,
    out: Path,
    device: torch.device,
    processes: Processes,
    init_from: str | Path | None,
    stop: StopSignals,
) -> Path:
    initial = None if init_from is None else ModelBundle.load(init_from)
    step = _build_step(plan, device, processes, initial)
    record = new_record(plan, out) | {"init_from": step.init_from}

    def create() -> Path:
        path = create_run(out, plan.config, record).path
        return path if initial is None else initial.save(path / "initial").parent

    run = RunFolder(_from_first(create, processes))
    with _locked(run, processes):
        return _go_on(run, record, plan, step, stop)


def _resume(
    path: Path, slices: str | Path | None, device: torch.device, processes: Processes, stop: StopSignals
) -> Path:
    run = RunFolder(_from_first(lambda: find_run(path).path, processes))
    with _locked(run, processes):
        record, config = run.load_record(), run.load_config()
        if is_complete(record, config, run):
            return run.path
        store = Path(slices) if slices is not None else Path(os.path.relpath(run.path.resolve() / record["slices"]))
        plan = build_plan(store, config, record["domains"])
        if plan.fingerprint != record["fingerprint"]:
            raise TrainingError(
                f"{store} has changed since {run.path} was started, so its samples would be others: start a new run, "
                "or name the store it was started with by --slices"
            )
        step = _build_step(plan, device, processes, initial_model(run, record))
        return _go_on(run, record, plan, step, stop)


def _from_first(make: Callable[[], Path], processes: Processes) -> Path:
    """Return the path that the first process makes, in every process."""
    return Path(processes.from_first(str(make()) if processes.first else ""))


@contextlib.contextmanager
def _locked(run: RunFolder, processes: Processes) -> Iterator[None]:
    """Hold the run by its first process; the others go on once that one does."""
    with run.lock() if processes.first else contextlib.nullcontext():
        processes.any(False)
        yield


def _go_on(run: RunFolder, record: dict[str, Any], plan: Plan, step: CycleGANStep, stop: StopSignals) -> Path:
    """Train ``run``, whose lock is held, from its last checkpoint to its end."""
    # Of several processes the others would wait for one that stops: they stop together, after a step.
    stop.at_once = step.processes.world == 1
    with _stopping_at_once(run, record, plan, stop), contextlib.ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng([step.device] if step.device.type == "cuda" else []))
        # Every process drops out other units.
        torch.manual_seed(plan.config.seed + (step.processes.rank << 32))
        state = load_newest_checkpoint(run.checkpoints)
        if state is not None:
            check_state(state)
            check_config(plan, state, run)
            restore_step(step, state)
        first = 0 if state is None else int(state["step"])
        boards = _open_boards(run, step, first)
        for board in boards:
            stack.callback(board.close)
        watchers = _watch(run, record, plan, step, boards)
        if state is not None:
            watchers.load_state_dict(state, step.device)
        # Before the first checkpoint all of config.yaml may still be edited.
        record.update(steps=plan.steps, epoch_length=plan.epoch_length, seed=plan.config.seed)
        if step.processes.first:
            drop_rows_after(run.metrics, first)
            stack.enter_context(session(run, record, step, watchers.metrics, first))
            announce(run, plan, step, first)
            check_room(run, step)
        checkpoints = Checkpoints(run, record, plan, step, watchers, stop)
        if first < plan.steps:
            looks = [Panels(run.panels, plan, step, boards), TimeLeft(plan)] if step.processes.first else []
            handlers = [LearningRate(plan, step), *watchers, *looks, checkpoints]
            handlers += _mlflow(run, plan, watchers.metrics) if step.processes.first else []
            run_engine(plan, step, first, handlers, watchers.metrics)
        else:
            checkpoints.save_model(first)
        if record["step"] < plan.steps and stop.received:
            record["state"] = "stopped"
            raise TrainingError(
                f"stopped by {stop.received} after step {record['step']} of {plan.steps}; all is saved: go on with "
                f"medcyclegan train --resume {run.path}"
            )
        record.update(state="finished", step=plan.steps)
    chosen = "" if watchers.validation is None else watchers.validation.words
    log.info("finished after %d steps: the model is %s, %s", plan.steps, run.model, chosen)
    return run.path


@contextlib.contextmanager
def _stopping_at_once(run: RunFolder, record: dict[str, Any], plan: Plan, stop: StopSignals) -> Iterator[None]:
    """Turn an interruption in the middle of a step into the refusal that says how to continue."""
    try:
        yield
    except KeyboardInterrupt:
        raise TrainingError(
            f"stopped by {stop.name} without saving; the last checkpoint is of step {record['step']} of {plan.steps}: "
            f"continue with medcyclegan train --resume {run.path}"
        ) from None


def _open_boards(run: RunFolder, step: CycleGANStep, first: int) -> list[Board]:
    """Return the boards that the first process shows the run on."""
    if not step.processes.first:
        return []
    board = open_tensorboard(run.path / "tensorboard", first)
    return [] if board is None else [board]


def _mlflow(run: RunFolder, plan: Plan, metrics: MetricsLog) -> list[Any]:
    def is_due(step: int) -> bool:
        return plan.is_due(step, plan.config.training.log_every)

    return mlflow_handlers(run.path.name, is_due, lambda: metrics.last)


def _watch(run: RunFolder, record: dict[str, Any], plan: Plan, step: CycleGANStep, boards: Sequence[Board]) -> Watchers:
    metrics = MetricsLog(run.metrics, plan, step, boards)
    if not step.processes.first:
        return Watchers(metrics)
    return Watchers(metrics, Validation(plan, step, metrics), Health(plan, step, metrics, record))


def _build_step(plan: Plan, device: torch.device, processes: Processes, initial: ModelBundle | None) -> CycleGANStep:
    batch_size = plan.config.training.batch_size
    if batch_size % processes.world:
        raise ConfigError(
            f"training.batch_size = {batch_size} cannot be shared out by {processes.world} processes: take a multiple "
            f"of {processes.world}"
        )
    check_key_metric(plan)
    precision = choose_precision(plan.config.training.precision, device)
    check_memory(plan, device, precision, processes)
    networks = build_cyclegan(plan.config.networks, plan.size, plan.config.seed)
    if initial is not None:
        put_generators(networks, initial, plan)
    try:
        networks = networks.to(device, torch.float64 if precision == "fp64" else torch.float32)
    except torch.OutOfMemoryError:
        raise TrainingError(
            f"the networks do not fit into the memory that is free on {device}: end what else uses it, or take fewer "
            "networks.generator.filters"
        ) from None
    step = build_step(plan.config, networks, device, precision, processes)
    if initial is not None:
        step.init_from, step.steps_before = initial.fingerprint, steps_behind(initial)
    if processes.first:
        # All that the first checkpoint's model needs, hours later.
        build_bundle(plan, step, 0).check()
    compile_step(step, plan)
    record_step(step)
    return step


def _with_steps(config: Config, max_steps: int | None) -> Config:
    if max_steps is None:
        return config
    if max_steps < 1:
        raise UsageError(f"--max-steps {max_steps}: at least 1 step is needed")
    values = config.model_dump(mode="json")
    values["training"]["max_steps"] = max_steps
    return parse_config(values, "--max-steps")
