"""Tissue means of an input, from the sidecar of its translation or from the model that made it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medcyclegan.errors import IntensityError, ModelError, ReadError
from medcyclegan.intensity import IntensityScaling
from medcyclegan.metrics import InputToHu, TissueMeans
from medcyclegan.volume import Volume

if TYPE_CHECKING:
    from medcyclegan.model import ModelBundle

__all__ = ["input_to_hu", "input_to_hu_of_record"]


def input_to_hu(volume: Volume, model: ModelBundle | str | Path) -> InputToHu:
    """Return the mapping of ``volume``, an input of ``model``, to its tissue means in HU, scaled as for translation.

    Raises :class:`~medcyclegan.errors.ModelError` for a folder that is not a model, or a model without tissue means.
    """
    from medcyclegan.inference import load_models
    from medcyclegan.model.domains import source_scaling
    from medcyclegan.model.training_set import tissue_means_fields

    (bundle,) = load_models(model)
    fields = {domain.name: tissue_means_fields(bundle.provenance, domain.name) for domain in bundle.domains}
    target = next((name for name, found in fields.items() if found is not None), None)
    if target is None:
        raise ModelError(
            "the model has no tissue means, which require one domain in HU, one that is not in HU, and training with "
            "this version: leave --model out; the other baselines remain"
        )
    try:
        means = TissueMeans.from_dict(fields[target] or {})
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"model.json: damaged tissue means ({error!r}): copy the model folder again") from None
    return InputToHu(means, source_scaling(volume, bundle.direction(target).source))


def input_to_hu_of_record(record: Mapping[str, Any], case: str) -> InputToHu | None:
    """Return the same mapping from the sidecar of a translation of that input; None if it has no tissue means.

    ``case``: the name of the translation for messages. Raises :class:`~medcyclegan.errors.ReadError` for a damaged
    record.
    """
    fields = record.get("tissue_means")
    if fields is None:
        return None
    try:
        return InputToHu(TissueMeans.from_dict(fields), IntensityScaling.from_dict(record["from"]["scaling"]))
    except (KeyError, TypeError, ValueError, IntensityError) as error:
        raise ReadError(
            f"{case}: the tissue means in the sidecar are damaged ({error!r}): translate it again, or remove that key"
        ) from None
