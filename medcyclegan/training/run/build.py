"""Build the networks and the step of a training, and check everything that could fail hours later."""

from __future__ import annotations

import torch

from medcyclegan.data import paired_slices
from medcyclegan.errors import ConfigError, TrainingError
from medcyclegan.model.bundle import ModelBundle
from medcyclegan.networks import build_cyclegan
from medcyclegan.training.monitor.validation import check_key_metric
from medcyclegan.training.plan import Plan
from medcyclegan.training.run.init_from import put_generators
from medcyclegan.training.run.saving import build_bundle
from medcyclegan.training.update.compilation import compile_networks
from medcyclegan.training.update.distributed import Ranks
from medcyclegan.training.update.one_domain_step import OnlyAStep, OnlyBStep
from medcyclegan.training.update.paired_step import PairedStep
from medcyclegan.training.update.precision import choose_precision
from medcyclegan.training.update.step import CycleGANStep, build_step
from medcyclegan.training.update.step_memory import check_memory

__all__ = ["build_networks_and_step"]


def build_networks_and_step(
    plan: Plan, device: torch.device, ranks: Ranks, initial: ModelBundle | None
) -> CycleGANStep:
    """Build the step that ``plan`` describes on ``device``, with the generators of ``initial`` if there is one.

    Raises :class:`~medcyclegan.errors.ConfigError` for a batch that cannot be divided among the processes and
    :class:`~medcyclegan.errors.TrainingError` for networks that do not fit into memory or the initial model's shape.
    """
    batch_size = plan.config.training.batch_size
    if batch_size % ranks.world_size:
        raise ConfigError(
            f"training.batch_size = {batch_size} cannot be divided among {ranks.world_size} processes: use a multiple "
            f"of {ranks.world_size}"
        )
    check_key_metric(plan)
    if plan.pairs is None and plan.config.losses.paired_weight > 0 and not paired_slices(plan.training):
        raise ConfigError(
            "losses.paired_weight needs pairs, but no training patient has both domains on one grid: set it to 0, or "
            "bring their volumes onto one with slice-volumes --register"
        )
    precision = choose_precision(plan.config.training.precision, device)
    check_memory(plan, device, precision, ranks)
    networks = build_cyclegan(plan.config.networks, plan.size, plan.config.seed)
    if initial is not None:
        put_generators(networks, initial, plan)
    try:
        networks = networks.to(device, torch.float64 if precision == "fp64" else torch.float32)
    except torch.OutOfMemoryError:
        raise TrainingError(
            f"the networks do not fit into the free memory of {device}: end other programs that use it, or set fewer "
            "networks.generator.filters"
        ) from None
    compiled = compile_networks(networks, plan, device)
    step = build_step(plan.config, networks, device, precision, ranks, compiled=compiled, kind=_kind_of(plan))
    if ranks.first and all(plan.training):
        # Everything that the model needs at the first checkpoint, which may be hours later.
        build_bundle(plan, step, 0).check()
    return step


def _kind_of(plan: Plan) -> type[CycleGANStep]:
    """Return the class of the step: that for pairs, for unpaired slices of A and B, or for slices of one of them."""
    if plan.pairs is not None:
        return PairedStep
    has_A, has_B = (bool(rows) for rows in plan.training)
    if has_A and has_B:
        return CycleGANStep
    return OnlyAStep if has_A else OnlyBStep
