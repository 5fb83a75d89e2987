"""Start a run with the generators of an existing model."""

from __future__ import annotations

import logging

from medcyclegan.config import Generator
from medcyclegan.errors import TrainingError
from medcyclegan.model.bundle import ModelBundle
from medcyclegan.model.fitness import Fitness
from medcyclegan.model.shipped import order_of_domains
from medcyclegan.networks import CycleGAN, weight_levels, weight_settings
from medcyclegan.training.plan import Plan
from medcyclegan.training.run.state import RunState

__all__ = ["check_generators", "initial_model", "put_generators", "steps_behind"]

log = logging.getLogger(__name__)


def put_generators(networks: CycleGAN, model: ModelBundle, plan: Plan) -> None:
    """Copy the generators of ``model`` into ``networks``, matched by the contrasts that the domains' names contain.

    If the contrasts differ, the domains are matched by their order and a warning is logged. Raises
    :class:`~medcyclegan.errors.TrainingError` for generators whose shape differs from the configuration's.
    """
    check_generators(model, plan.config.networks.generator, plan.size)
    a, b = model.domains
    own = [(name, None) for name in plan.domains]
    order = order_of_domains([(a.name, a.modality), (b.name, b.modality)], own)
    if order is None:
        log.warning("--init-from: a model of %s and %s is used for %s and %s", a.name, b.name, *plan.domains)
    of = {"G_AB": "G_BA", "G_BA": "G_AB"} if order == (1, 0) else {"G_AB": "G_AB", "G_BA": "G_BA"}
    pixel_mm = plan.config.slicing.pixel_mm
    if (model.preparation.fit, model.preparation.pixel_mm) != (plan.config.slicing.fit, pixel_mm):
        log.warning(
            "--init-from: its slices were made with %s, %g mm, the store's with %s, %g mm: anatomy differs in scale",
            *(model.preparation.fit, model.preparation.pixel_mm, plan.config.slicing.fit, pixel_mm),
        )
    for name, network in (("G_AB", networks.G_AB), ("G_BA", networks.G_BA)):
        network.load_state_dict(dict(model.weights[of[name]]))


def initial_model(state: RunState) -> ModelBundle | None:
    """Return the model that a run was started with, stored in its ``initial/``; None for a run from scratch.

    Raises :class:`~medcyclegan.errors.TrainingError` if the run was killed before the model was stored.
    """
    if not state.has_initial_model:
        return None
    path = state.folder.path
    if not (path / "initial").is_dir():
        raise TrainingError(f"{path} was stopped before its initial model was stored: start it again with --init-from")
    return ModelBundle.load(path / "initial")


def steps_behind(model: ModelBundle) -> int:
    """Return the steps that ``model`` and the models it was started from were trained for; 0 if not recorded."""
    fitness = Fitness.of(model.provenance)
    if fitness is not None:
        return fitness.steps
    steps = model.provenance.get("steps")
    return steps if isinstance(steps, int) else 0


def check_generators(model: ModelBundle, generator: Generator, slice_size: int) -> None:
    """Check that the weights of ``model`` fit generators of the configuration for slices of ``slice_size`` pixels.

    Raises :class:`~medcyclegan.errors.TrainingError` if not.
    """
    remedy = "name a model with the configured generators, or --set those"
    if model.graphs:
        raise TrainingError(f"--init-from: it holds ONNX graphs and no weights: {remedy}")
    size = model.preparation.size
    ours = weight_settings(generator, slice_size)
    theirs = weight_settings(model.generator, size)
    changes = [f"networks.generator.{key}={value}" for key, value in theirs.items() if ours.get(key) != value]
    if changes:
        raise TrainingError(f"--init-from: it has {', '.join(changes)}: {remedy}")
    levels, needed = weight_levels(model.generator, size), weight_levels(generator, slice_size)
    if levels != needed:
        raise TrainingError(
            f"--init-from: the {generator.kind} has {levels} levels for slices of {size} pixels; slices of "
            f"{slice_size} need {needed}: name a model of that size, or slice with its size"
        )
