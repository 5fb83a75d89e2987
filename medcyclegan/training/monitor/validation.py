"""Validation: scores of translated slices of held-out patients, by which the model's weights are chosen."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events

from medcyclegan.errors import ConfigError
from medcyclegan.training.monitor.metrics_log import MetricsLog
from medcyclegan.training.monitor.scores import held_out_slices, paired_places, scores_of, scores_of_inputs
from medcyclegan.training.plan import Plan
from medcyclegan.training.update.step import CycleGANStep

__all__ = ["Best", "Validation", "check_key_metric", "key_value", "weights_of"]

log = logging.getLogger(__name__)

#: Scores for which higher is better.
_RISING = ("psnr", "ssim")
_NEED_PAIRS = ("mae", "psnr", "ssim")

#: ``{"step": ..., "value": ..., "scores": {...}, "weights": {"G_AB": ..., "G_BA": ...}}``: the best validation so far.
Best = dict[str, Any]


class Validation:
    """Adds a row of scores to ``metrics.jsonl`` at the configured intervals, and keeps the weights of the best one.

    If no volume is held out, nothing is measured, ``best`` stays None, and the last weights are the model.
    """

    def __init__(self, plan: Plan, step: CycleGANStep, metrics: MetricsLog) -> None:
        self.best: Best | None = None
        self._last: dict[str, Any] = {"step": None, "scores": {}}
        self._plan = plan
        self._step = step
        self._metrics = metrics
        self._slices = held_out_slices(plan, step.device)
        self._metric = plan.config.validation.key_metric
        missing = [name for name, images in zip(plan.domains, self._slices.inputs, strict=True) if not len(images)]
        if len(missing) == 2:
            log.info("no volumes are held out, so nothing is validated and the last weights become the model")
        elif missing:
            log.info("no volumes of %s are held out: only those of the other domain are validated", missing[0])

    def attach(self, engine: Engine) -> None:
        """Validate after the steps of ``engine``, if anything is held out."""
        if any(len(images) for images in self._slices.inputs):
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._validate_if_due)

    def state_dict(self) -> dict[str, Any]:
        """Return the best validation so far, with its weights."""
        return {"metric": self._metric, "best": self.best, "last": dict(self._last)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state returned by :meth:`state_dict`; a best validation by another metric is dropped."""
        self._last = dict(state.get("last", self._last))
        if state["metric"] == self._metric:
            self.best = state["best"]
        elif state["best"] is not None:
            log.info("the best weights so far were chosen by %s, no longer the key metric: dropped", state["metric"])

    @functools.cached_property
    def input_scores(self) -> dict[str, float]:
        """The scores of the held-out input slices used as translations."""
        return scores_of_inputs(self._slices)

    def scores_at(self, step: int) -> dict[str, float]:
        """Return the scores measured after ``step``; empty unless that validation was the best or the last one."""
        for measured in (self.best, self._last):
            if measured is not None and measured["step"] == step:
                return dict(measured.get("scores", {}))
        return {}

    @property
    def description(self) -> str:
        """A description of the chosen weights, for the last line of a run's log."""
        if self.best is None:
            return "of the last step, since no volumes are held out"
        key = f"{_section_of(self._plan)}.key_metric"
        return f"of step {self.best['step']}, the best by {key} {self._metric} ({self.best['value']:.4g})"

    def _validate_if_due(self, engine: Engine) -> None:
        step = engine.state.iteration
        if not self._plan.is_due(step, self._plan.validate_every):
            return
        scores = scores_of(self._step, self._slices)
        self._metrics.write_row(step, {f"validation_{name}": value for name, value in scores.items()})
        self._last = {"step": step, "scores": scores}
        value = key_value(scores, self._metric)
        sign = -1.0 if self._metric in _RISING else 1.0
        if self.best is None or sign * value < sign * self.best["value"]:
            model = self._step.model
            self.best = {
                "step": step,
                "value": value,
                "scores": scores,
                "weights": {"G_AB": weights_of(model.G_AB), "G_BA": weights_of(model.G_BA)},
            }


def _section_of(plan: Plan) -> str:
    """Return the section of the configuration that has the key metric."""
    return "validation" if plan.pairs is None else "pretraining"


def check_key_metric(plan: Plan) -> None:
    """Raise :class:`~medcyclegan.errors.ConfigError` for a key metric that the held-out volumes do not allow."""
    metric = plan.config.validation.key_metric
    if plan.pairs is not None and plan.pairs.has_held_out:
        return
    section = _section_of(plan)
    if any(plan.held_out) and metric in _NEED_PAIRS and not paired_places(plan, 1):
        raise ConfigError(
            f"{section}.key_metric = {metric} compares pairs, but no held-out patient has both domains on one grid: "
            "use sliced_wasserstein, histogram or cycle"
        )


def key_value(scores: Mapping[str, float], metric: str) -> float:
    """Return the mean of one metric over the directions or domains for which it was measured."""
    return float(np.mean([value for name, value in scores.items() if name.rpartition("_")[0] == metric]))


def weights_of(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of a network's state on the CPU, in float32."""
    return {name: tensor.detach().to("cpu", torch.float32, copy=True) for name, tensor in network.state_dict().items()}
