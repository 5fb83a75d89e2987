"""Build the record of the JSON file next to an output: how it was made, and its quality."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from medcyclegan.errors import MedCycleGANError
from medcyclegan.inference.runtime.options import InferenceOptions
from medcyclegan.inference.translate import Translation
from medcyclegan.intensity import IntensityScaling
from medcyclegan.io.sidecar import MADE_BY
from medcyclegan.model.bundle import DomainModel, ModelBundle
from medcyclegan.model.fitness import Fitness
from medcyclegan.model.training_set import tissue_means_fields
from medcyclegan.provenance import now, versions
from medcyclegan.volume import Volume

__all__ = ["build_record", "noted"]

log = logging.getLogger(__name__)


def build_record(volume: Volume, done: Translation, computing: InferenceOptions, *, forced: bool) -> dict[str, Any]:
    """Return the sidecar's record of the translation ``done`` of ``volume``, except for its quality and times.

    It consists of JSON values and holds no path and no header text of the input.
    """
    clipped = done.scaling.count_clipped(volume.array)
    models, model = done.direction.models, done.direction.model
    means = tissue_means_fields(model.provenance, done.direction.target.name)
    return {
        "made_by": MADE_BY,
        "synthetic": True,
        **({"input_synthetic": True} if volume.is_synthetic else {}),
        **({"Modality": done.direction.target.modality} if done.direction.target.modality else {}),
        "intended_use": "research only; not a medical device",
        "created": now(),
        "versions": versions(),
        "model": model.fingerprint,
        **({"models": [bundle.fingerprint for bundle in models]} if len(models) > 1 else {}),
        "model_fitness": _fitness(models),
        "from": _domain(done.direction.source, done.scaling),
        "to": _domain(done.direction.target, done.direction.target.scaling),
        **({} if means is None else {"tissue_means": dict(means)}),
        "preparation": dataclasses.asdict(model.preparation),
        "shape": list(volume.shape),
        "clipped_voxels": clipped,
        "clipped_share": round(clipped / volume.array.size, 6),
        "forced": forced,
        "device": str(done.device),
        "batch_size": done.batch_size,
        "backend": computing.backend,
        "planes": computing.planes,
        "tta": computing.tta,
        "fast": None if done.fast is None else dataclasses.asdict(done.fast),
        "quality": None,
    }


def _fitness(models: Sequence[ModelBundle]) -> Any:
    """Return the fitness of the model, or of each of several; null for a model that does not record it."""
    each = [None if (fitness := Fitness.of(bundle.provenance)) is None else fitness.to_dict() for bundle in models]
    return each if len(each) > 1 else each[0]


def _domain(domain: DomainModel, scaling: IntensityScaling) -> dict[str, Any]:
    return {"domain": domain.name, "modality": domain.modality, "scaling": scaling.to_dict()}


@contextlib.contextmanager
def noted(failures: dict[str, str], step: str, phrase: str) -> Iterator[None]:
    """Store the failure of a ``step`` in ``failures``, as ``phrase`` and the reason, instead of raising it.

    For steps after the translation: their failure must not lose it.
    """
    try:
        yield
    except Exception as error:
        log.debug("%s", phrase, exc_info=True)
        reason = str(error) if isinstance(error, MedCycleGANError) else f"{type(error).__name__}: {error}"
        failures[step] = f"{phrase} ({reason})"
