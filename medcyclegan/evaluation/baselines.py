"""Where the tissue means of an input come from: the sidecar beside its translation, or the model that made it."""

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
    """Return what takes ``volume``, an input of ``model``, to its tissue means in HU, scaled as for a translation.

    Raises :class:`~medcyclegan.errors.ModelError` for a folder that is no model, and for a model without tissue means.
    """
    from medcyclegan.inference import load_models
    from medcyclegan.model.domains import source_scaling
    from medcyclegan.model.training_set import tissue_means_fields

    (bundle,) = load_models(model)
    fields = {domain.name: tissue_means_fields(bundle.provenance, domain.name) for domain in bundle.domains}
    target = next((name for name, found in fields.items() if found is not None), None)
    if target is None:
        raise ModelError(
            "the model holds no tissue means, which need a domain in HU and one that is not, and a training by this "
            "version: leave --model out; the other baselines stay"
        )
    try:
        means = TissueMeans.from_dict(fields[target] or {})
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"model.json: damaged tissue means ({error!r}): copy the model folder again") from None
    return InputToHu(means, source_scaling(volume, bundle.direction(target).source))


def input_to_hu_of_record(record: Mapping[str, Any], case: str) -> InputToHu | None:
    """Return the same by what translate-volume wrote beside a translation of that input; None where it has no means.

    ``case`` names the translation in messages. Raises :class:`~medcyclegan.errors.ReadError` for a damaged record.
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
