"""Which of a model's domains a volume belongs to, and how its values are scaled."""

from __future__ import annotations

import logging

from medcyclegan.errors import IntensityError
from medcyclegan.intensity import IntensityScaling, check_hu
from medcyclegan.model.bundle import DomainModel, ModelBundle
from medcyclegan.volume import Volume

__all__ = ["AIR", "check_modality", "choose_target", "fits_domain", "half_range", "output_modality", "source_scaling"]

log = logging.getLogger(__name__)

#: Values of the scaled range up to here are taken for air and padding, above for the patient.
AIR = -0.95


def output_modality(volume: Volume, target: DomainModel) -> str | None:
    """Return the modality of what ``volume`` becomes in the domain ``target``."""
    return target.modality if target.modality in ("CT", "MR") else volume.modality


def choose_target(volume: Volume, bundle: ModelBundle) -> str:
    """Return the domain to translate to where none is named: B, or A where only B fits the input."""
    a, b = bundle.domains
    fits_a, fits_b = (fits_domain(volume, domain) for domain in (a, b))
    target = a if fits_b and not fits_a else b
    log.warning("translating to %s (choose with --to %s or --to %s)", target.name, a.name, b.name)
    return target.name


def check_modality(volume: Volume, source: DomainModel, target: DomainModel, *, force: bool) -> None:
    """Refuse an input that is not of the source domain's modality, unless ``force``.

    The file's modality counts; where the file has none, a volume in Hounsfield units is a CT. The refusal advises to
    translate from ``target`` to ``source`` only where the input is of the target's modality.
    """
    if fits_domain(volume, source):
        return
    if fits_domain(volume, target):
        remedy = f"translate to {source.name} with --to {source.name}"
    else:
        remedy = f"its {target.name} does not fit the input either, so take another model with --model"
    if volume.modality is None and source.modality == "CT" and not force:
        try:
            check_hu(volume.array)
        except IntensityError as error:
            raise IntensityError(f"{error}; if it is not a CT, {remedy}") from None
    found = volume.modality or ("not CT (its values are not in HU)" if source.modality == "CT" else "CT (in HU)")
    message = f"the input is {found}, but the model's {source.name} is {source.modality}"
    if not force:
        raise IntensityError(f"{message}: {remedy}, or accept it with --force")
    log.warning("%s; continuing because of --force", message)


def fits_domain(volume: Volume, domain: DomainModel) -> bool:
    """Whether ``volume`` is of the domain's modality, as far as file and values tell."""
    if domain.modality is None or volume.modality == domain.modality:
        return True
    if volume.modality is not None:
        return False
    return _is_hu(volume) == (domain.modality == "CT")


def _is_hu(volume: Volume) -> bool:
    try:
        check_hu(volume.array)
    except IntensityError:
        return False
    return True


def source_scaling(volume: Volume, source: DomainModel, *, force: bool = False) -> IntensityScaling:
    """Return how ``volume``, of domain ``source``, is scaled: by the domain's rule, on its own values.

    With ``force`` a CT that is not in HU is taken through the window all the same.
    """
    if source.scaling.kind == "window" and force:
        return source.scaling
    modality = "CT" if source.scaling.kind == "window" else "MR"
    value_range = volume.value_range or (source.scaling.lower, source.scaling.upper)
    return IntensityScaling.fit(
        volume.array,
        modality=modality,
        value_range=value_range if source.scaling.kind == "range" else None,
        window_hu=source.rule.window_hu,
        percentiles=source.rule.percentiles,
    )


def half_range(scaling: IntensityScaling) -> float:
    """Return what 1 of the scaled range [-1, 1] means in the scaling's unit."""
    return (scaling.upper - scaling.lower) / 2
