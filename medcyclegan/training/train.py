"""``train``: slices become a model, in a run folder that can always be gone on with."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from ignite.engine import Engine, Events
from monai.engines.trainer import Trainer

from medcyclegan.config import Config, parse_config
from medcyclegan.data import Sampling, UnpairedSlices, prefetched_batches
from medcyclegan.errors import TrainingError, UsageError
from medcyclegan.inference.device import choose_device
from medcyclegan.networks import build_cyclegan
from medcyclegan.progress import progress_bar
from medcyclegan.training.checkpoint import load_newest_checkpoint, restore_step
from medcyclegan.training.health import Health
from medcyclegan.training.metrics_log import MetricsLog, drop_rows_after, open_tensorboard
from medcyclegan.training.panels import Panels
from medcyclegan.training.plan import Plan, build_plan
from medcyclegan.training.precision import choose_precision
from medcyclegan.training.run_folder import RunFolder, create_run, find_run
from medcyclegan.training.saving import Checkpoints
from medcyclegan.training.schedule import LearningRate
from medcyclegan.training.session import announce, check_config, new_record, session
from medcyclegan.training.step import CycleGANStep, build_step
from medcyclegan.training.stopping import StopSignals
from medcyclegan.training.time_left import TimeLeft
from medcyclegan.training.validation import CycleValidation

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
) -> Path:
    """Train a CycleGAN on the slice store ``slices`` (default: ``slices/``); return the run's folder.

    ``config``: what to train and how (default: the ``default`` configuration). ``domains``: the names
    of A and B (default: the store's two, in alphabetical order). The run is ``out/<date>-<time>``, and
    ``out/latest`` points at it: ``config.yaml``, ``metrics.jsonl``, ``panels/``, ``checkpoints/``,
    ``model/`` (from the first checkpoint on), ``run.json``. ``max_steps`` replaces the number of
    epochs.

    ``resume``: go on with a run (a folder, or True for ``out/latest``) under its own configuration
    from its last whole checkpoint, or from step 0 where it has none; on the CPU the weights come out
    bit-identical to those of an uninterrupted run with the same number of threads. A finished run is
    left as it is.

    SIGTERM, SIGUSR1 and Ctrl-C save a checkpoint after the step in hand; then, as for every expected
    failure, :class:`~medcyclegan.errors.TrainingError` is raised, whose text says how to go on (exit
    code 1 on the command line). Raises :class:`~medcyclegan.errors.StoreError` for a store that cannot
    be trained on, :class:`~medcyclegan.errors.ConfigError` for networks that do not fit its slices.
    """
    if resume is not None:
        if config is not None or domains is not None or max_steps is not None:
            raise UsageError(
                "a resumed run goes on under its own configuration, domains and steps: leave --config, --set, "
                "--domains and --max-steps out, or start a new run"
            )
        return _resume(Path(out) / "latest" if resume is True else Path(resume), slices, device)
    config = _with_steps(config or Config(), max_steps)
    plan = build_plan(Path(slices or "slices"), config, domains)
    step = _build_step(plan, device)
    record = new_record(plan, Path(out))
    run = create_run(Path(out), plan.config, record)
    with run.lock():
        return _go_on(run, record, plan, step)


def _resume(path: Path, slices: str | Path | None, device: str) -> Path:
    run = find_run(path)
    with run.lock():
        record = run.load_record()
        if record["state"] == "finished":
            log.info("%s is finished, %d of %d steps: nothing is left to do", run.path, record["step"], record["steps"])
            return run.path
        store = Path(slices) if slices is not None else Path(os.path.relpath(run.path.resolve() / record["slices"]))
        plan = build_plan(store, run.load_config(), record["domains"])
        if plan.fingerprint != record["fingerprint"]:
            raise TrainingError(
                f"{store} has changed since {run.path} was started, so its samples would be others: start a new run, "
                "or name the store it was started with by --slices"
            )
        return _go_on(run, record, plan, _build_step(plan, device))


def _go_on(run: RunFolder, record: dict[str, Any], plan: Plan, step: CycleGANStep) -> Path:
    """Train ``run``, whose lock is held, from its last checkpoint to its end."""
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(StopSignals())
        stack.enter_context(torch.random.fork_rng([step.device] if step.device.type == "cuda" else []))
        torch.manual_seed(plan.config.seed)
        state = load_newest_checkpoint(run.checkpoints)
        first = 0 if state is None else int(state["step"])
        board = open_tensorboard(run.path / "tensorboard", first)
        if board is not None:
            stack.callback(board.close)
        metrics = MetricsLog(run.metrics, plan, step.optimizer_G, board)
        if state is not None:
            check_config(plan.config, state["config"], run)
            restore_step(step, state)
            metrics.load_state_dict(state["metrics"], step.device)
        health = Health(plan, step, metrics, record)
        if state is not None:
            health.load_state_dict(state["health"])
        drop_rows_after(run.metrics, first)
        stack.enter_context(session(run, record, step, first))
        announce(run, plan, step, first)
        checkpoints = Checkpoints(run, record, plan, step, metrics, health, stop)
        handlers = [LearningRate(plan, step), metrics, CycleValidation(plan, step, metrics), health]
        handlers += [Panels(run.panels, plan, step, board), checkpoints, TimeLeft(plan)]
        if first < plan.steps:
            _run_engine(plan, step, first, handlers)
        else:
            checkpoints.save_model(first)
        if record["step"] < plan.steps and stop.received:
            record["state"] = "stopped"
            raise TrainingError(
                f"stopped by {stop.received} after step {record['step']} of {plan.steps}; all is saved: go on with "
                f"medcyclegan train --resume {run.path}"
            )
        record.update(state="finished", step=plan.steps)
    log.info("finished after %d steps: the model is %s", plan.steps, run.model)
    return run.path


def _run_engine(plan: Plan, step: CycleGANStep, first: int, handlers: Sequence[Any]) -> None:
    """Run MONAI's trainer from step ``first`` to the plan's last one."""
    training = plan.config.training
    sampling = Sampling(plan.config.seed, training.batch_size, training.flip_probability, training.pairing)
    slices = UnpairedSlices(*plan.training, plan.store, sampling)
    pin = step.device.type == "cuda"
    with (
        contextlib.closing(prefetched_batches(slices.batch, first, plan.steps, pin=pin)) as batches,
        progress_bar("training", plan.steps, done=first) as bar,
    ):
        trainer = Trainer(
            device=step.device,
            max_epochs=-(-plan.steps // plan.epoch_length),
            data_loader=batches,
            epoch_length=plan.epoch_length,
            iteration_update=step,
            handlers=handlers,
            decollate=False,
        )
        # Its own messages say what ours say, and an error is reported where it is caught.
        trainer.logger = logging.Logger("medcyclegan.training.engine", logging.CRITICAL)
        trainer.state.iteration, trainer.state.epoch = first, first // plan.epoch_length

        @trainer.on(Events.ITERATION_COMPLETED)
        def _count(engine: Engine) -> None:
            bar.advance()
            if engine.state.iteration == plan.steps:
                engine.terminate()

        try:
            trainer.run()
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"the device's memory is too small ({error}): lower training.batch_size or "
                "networks.generator.filters, or slice to a smaller size"
            ) from None


def _build_step(plan: Plan, device: str) -> CycleGANStep:
    where = choose_device(device)
    precision = choose_precision(plan.config.training.precision, where)
    networks = build_cyclegan(plan.config.networks, plan.size, plan.config.seed).to(where)
    return build_step(plan.config, networks, where, precision)


def _with_steps(config: Config, max_steps: int | None) -> Config:
    if max_steps is None:
        return config
    if max_steps < 1:
        raise UsageError(f"--max-steps {max_steps}: at least 1 step is needed")
    values = config.model_dump(mode="json")
    values["training"]["max_steps"] = max_steps
    return parse_config(values, "--max-steps")
