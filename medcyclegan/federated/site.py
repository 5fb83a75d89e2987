"""One site of a federated training: its slices, its networks and its checkpoints, all of which stay where they are."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from medcyclegan.config import Config, to_yaml
from medcyclegan.device import choose_device
from medcyclegan.errors import TrainingError
from medcyclegan.federated.agreement import Declaration, declare
from medcyclegan.federated.averaging import NETWORKS, Weights
from medcyclegan.federated.job import Job
from medcyclegan.storage import atomic_write
from medcyclegan.training.monitor.metrics_log import MetricsLog, drop_rows_after
from medcyclegan.training.monitor.validation import weights_of
from medcyclegan.training.plan import build_site_plan
from medcyclegan.training.run.build import build_networks_and_step
from medcyclegan.training.run.checkpoint import (
    check_state,
    load_newest_checkpoint,
    restore_step,
    save_checkpoint,
    step_state,
)
from medcyclegan.training.run.engine import run_engine
from medcyclegan.training.run.folder import RunFolder
from medcyclegan.training.schedule import LearningRate
from medcyclegan.training.update.distributed import Ranks

__all__ = ["Site"]

log = logging.getLogger(__name__)


class Site:
    """Trains the job's networks on the slice store ``store``, which may lack one of the domains.

    ``runs``: the folder in which the site keeps ``federated-<run>``: configuration, losses and checkpoints. The
    optimizers' moments and the past fakes are in these checkpoints and never leave the site.
    """

    def __init__(self, job: Job, store: Path, runs: Path, device: str = "auto") -> None:
        self.job = job
        self.plan = build_site_plan(store, job.config, job.domains)
        self.folder = RunFolder(runs / job.name)
        self._step = build_networks_and_step(self.plan, choose_device(device), Ranks(), None)
        self._done = -1
        self._metrics: MetricsLog | None = None

    def declare(self) -> Declaration:
        """Return what the site declares about its slices: rules and counts."""
        return declare(self.plan)

    def train(self, weights: Weights, number: int) -> dict[str, dict[str, torch.Tensor]]:
        """Train round ``number``, counted from 0, from the averaged ``weights``; return the trained ones.

        The optimizers continue from the site's checkpoint of the end of the previous round. If there is none, because
        the site missed that round, they start anew. Raises :class:`~medcyclegan.errors.TrainingError` for a round that
        the job does not have, for weights of another shape and for losses that are not finite.
        """
        if not 0 <= number < self.job.rounds:
            raise TrainingError(f"received round {number}, counted from 0, of a job of {self.job.rounds} rounds")
        first = number * self.job.steps
        for folder in (self.folder.path, self.folder.checkpoints):
            folder.mkdir(parents=True, exist_ok=True)
        with self.folder.lock(), torch.random.fork_rng([]):
            metrics = self._continue_from(first)
            # If this round fails, the next attempt starts from the checkpoint.
            self._done = -1
            self._load(weights)
            # Dropout is a function of the round, whether or not the site was restarted.
            torch.manual_seed(self.plan.config.seed + first)
            end = first + self.job.steps
            run_engine(self.plan, self._step, first, [LearningRate(self.plan, self._step), metrics], metrics, end)
            metrics.check_finite(end)
            state = {"config": self.plan.config.model_dump(mode="json"), "metrics": metrics.state_dict()}
            save_checkpoint(self.folder.checkpoints, end, {**state, **step_state(self._step)}, keep=2)
        self._done = end
        return {name: weights_of(getattr(self._step.networks, name)) for name in NETWORKS}

    def _continue_from(self, first: int) -> MetricsLog:
        """Bring the optimizers and the log of losses to their state after step ``first``."""
        if self._metrics is not None and self._done == first:
            return self._metrics
        self._step = build_networks_and_step(self.plan, self._step.device, Ranks(), None)
        metrics = MetricsLog(self.folder.metrics, self.plan, self._step)
        state = load_newest_checkpoint(self.folder.checkpoints, up_to=first) if first else None
        if state is not None and state["step"] == first and _same(state, self.plan.config):
            check_state(state)
            restore_step(self._step, state)
            metrics.load_state_dict(state["metrics"], self._step.device)
            log.info("continuing after step %d", first)
        elif first:
            log.warning("no checkpoint of step %d here: the optimizers start anew with the received weights", first)
        drop_rows_after(self.folder.metrics, first)
        with atomic_write(self.folder.path / "config.yaml") as file:
            file.write(to_yaml(self.plan.config).encode())
        self._metrics = metrics
        return metrics

    def _load(self, weights: Weights) -> None:
        if sorted(weights) != sorted(NETWORKS):
            raise TrainingError(
                f"received weights of {', '.join(sorted(weights))}, not of {', '.join(NETWORKS)}: install the same "
                "version of medcyclegan at the server"
            )
        for name, state in weights.items():
            try:
                getattr(self._step.networks, name).load_state_dict(dict(state))
            except RuntimeError as error:
                raise TrainingError(
                    f"the received {name} does not fit the job's networks ({error}): install the same version of "
                    "medcyclegan at all sites"
                ) from None


def _same(state: Mapping[str, Any], config: Config) -> bool:
    """Return whether a checkpoint is of this configuration: slices that were replaced have another scaling or size."""
    return bool(state.get("config") == config.model_dump(mode="json"))
