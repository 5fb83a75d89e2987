"""Start a run with the generators of an existing model."""

from __future__ import annotations

import logging
from typing import Any

from medcyclegan.config import Generator
from medcyclegan.errors import TrainingError
from medcyclegan.model.bundle import ModelBundle
from medcyclegan.model.fitness import Fitness
from medcyclegan.networks import CycleGAN, resnet_blocks, unet_levels
from medcyclegan.training.plan import Plan
from medcyclegan.training.run.state import RunState

__all__ = ["initial_model", "put_generators", "steps_behind"]

log = logging.getLogger(__name__)


def put_generators(networks: CycleGAN, model: ModelBundle, plan: Plan) -> None:
    """Copy the generators of ``model`` into ``networks``, matched by the names of the domains that they translate.

    If the names differ, the domains are matched by their order and a warning is logged. Raises
    :class:`~medcyclegan.errors.TrainingError` for generators whose shape differs from the configuration's.
    """
    theirs, ours = _shape(model.generator, model.preparation.size), _shape(plan.config.networks.generator, plan.size)
    if model.graphs or theirs != ours:
        # The levels of a unet follow from the size of its slices; no setting changes them.
        changes = [
            f"networks.generator.{key}={value}"
            for key, value in theirs.items()
            if key != "levels" and ours.get(key) != value
        ]
        if not changes and not model.graphs:
            raise TrainingError(
                f"--init-from: the unet has {theirs['levels']} levels for slices of {model.preparation.size} pixels; "
                f"slices of {plan.size} need {ours['levels']}: name a model of that size, or slice with its size"
            )
        reason = "it holds ONNX graphs and no weights" if model.graphs else f"it has {', '.join(changes)}"
        raise TrainingError(f"--init-from: {reason}: name a model with the configured generators, or --set those")
    names = {domain.name for domain in model.domains}
    if names == set(plan.domains):
        of = {name: model.direction(to).generator for name, to in zip(("G_BA", "G_AB"), plan.domains, strict=True)}
    else:
        of = {"G_AB": "G_AB", "G_BA": "G_BA"}
        a, b = model.domains
        log.warning("--init-from: a model of %s and %s is used for %s and %s", a.name, b.name, *plan.domains)
    pixel_mm = plan.config.slicing.pixel_mm
    if (model.preparation.fit, model.preparation.pixel_mm) != (plan.config.slicing.fit, pixel_mm):
        log.warning(
            "--init-from: its slices were made with %s, %g mm, the store's with %s, %g mm: anatomy differs in scale",
            *(model.preparation.fit, model.preparation.pixel_mm, plan.config.slicing.fit, pixel_mm),
        )
    networks.G_AB.load_state_dict(dict(model.weights[of["G_AB"]]))
    networks.G_BA.load_state_dict(dict(model.weights[of["G_BA"]]))


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


def _shape(generator: Generator, size: int) -> dict[str, Any]:
    """Return the settings that determine the names and shapes of a generator's weights."""
    shape: dict[str, Any] = {"kind": generator.kind, "filters": generator.filters}
    shape |= {"upsampling": generator.upsampling, "context_slices": generator.context_slices}
    if generator.kind == "resnet":
        shape["blocks"] = generator.blocks or resnet_blocks(size)
    if generator.kind == "unet":
        shape["levels"] = unet_levels(size)
    return shape
