"""How well the contrasts of a model's translations agree with real slices, without a true image."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from medcyclegan.model.bundle import ModelBundle
from medcyclegan.networks import build_cyclegan
from medcyclegan.training.monitor.diagnostics import Reference
from medcyclegan.training.monitor.health import measure_signs
from medcyclegan.training.plan import Plan
from medcyclegan.training.run.init_from import put_generators
from medcyclegan.training.update.step import build_step

__all__ = ["agreement_of_contrasts"]


def agreement_of_contrasts(plan: Plan, model: ModelBundle, references: Mapping[str, Reference]) -> float:
    """Return how well the contrasts of ``model`` agree with real slices, -1 to 1, the mean over both directions.

    Per direction: ``contrast`` of :func:`~medcyclegan.training.monitor.diagnostics.signs_of`, the correlation inside
    the head of blurred translations with the mean real slices of the other domain at the same heights. ``references``:
    those of ``plan`` in the directions ``AB`` and ``BA``. The networks of ``model`` must be those of ``plan``.
    """
    networks = build_cyclegan(plan.config.networks, plan.size, 0)
    put_generators(networks, model, plan)
    signs = measure_signs(build_step(plan.config, networks, torch.device("cpu"), "fp32"), references)
    return sum(values["contrast"] for values in signs.values()) / len(signs)
