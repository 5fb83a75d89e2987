"""Which of a model's domains a volume belongs to, and how its values are scaled."""

from __future__ import annotations

import logging

from medcyclegan.errors import IntensityError, UsageError
from medcyclegan.intensity import IntensityScaling, check_hu
from medcyclegan.model.bundle import Direction, DomainModel, ModelBundle
from medcyclegan.model.contrast_names import contrasts_in
from medcyclegan.volume import Volume

__all__ = [
    "AIR",
    "check_modality",
    "choose_direction",
    "fits_domain",
    "half_range",
    "output_modality",
    "source_scaling",
]

log = logging.getLogger(__name__)

#: Scaled values up to this one count as air or padding, larger values as the patient. In the default CT window it is
#: -922 HU, above air and its noise.
AIR = -0.95


def output_modality(volume: Volume, target: DomainModel) -> str | None:
    """Return the modality of the translation of ``volume`` into the domain ``target``."""
    return target.modality if target.modality in ("CT", "MR") else volume.modality


def choose_direction(volume: Volume, bundle: ModelBundle, to: str | None = None, *, name: str = "") -> Direction:
    """Return the direction into the domain ``to``; by default into B, or into A if the input fits only B.

    ``name``: that of the input's file. Raises :class:`~medcyclegan.errors.ModelError` for a domain that the model does
    not have, and :class:`~medcyclegan.errors.UsageError` without ``to`` if ``name`` contains the contrast that the
    output would have, and not the other one.
    """
    if to:
        return bundle.direction(to)
    a, b = bundle.domains
    fits_a, fits_b = (fits_domain(volume, domain) for domain in (a, b))
    a_to_b, b_to_a = bundle.directions
    chosen = b_to_a if fits_b and not fits_a else a_to_b
    source, target = chosen.source.name.lower(), chosen.target.name.lower()
    if {target} == contrasts_in(name) & {source, target}:
        raise UsageError(
            f"{name} is {chosen.target.name} by its name, and so would be the output without --to",
            remedy=f"choose with --to {chosen.source.name} or --to {chosen.target.name}",
        )
    log.info("translating to %s (choose with --to %s or --to %s)", chosen.target.name, a.name, b.name)
    return chosen


def check_modality(volume: Volume, direction: Direction, *, force: bool) -> None:
    """Reject an input that is not of the source domain's modality, unless ``force``.

    The modality is the one in the file; if the file has none, a volume in Hounsfield units counts as CT. The message
    suggests the other direction only if the input is of the target's modality.

    Raises :class:`~medcyclegan.errors.IntensityError`.
    """
    source, target = direction.source, direction.target
    if fits_domain(volume, source):
        return
    if fits_domain(volume, target):
        remedy = f"translate to {source.name} with --to {source.name}"
    else:
        remedy = f"its {target.name} does not fit the input either, so use another model with --model"
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
    """Return whether ``volume`` is of the domain's modality, as far as the file and its values show."""
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
    """Return the scaling of ``volume``, an input of domain ``source``, by the domain's ``input_scaling``.

    With ``force``, the CT window is applied even if the values are not in HU.
    """
    if source.scaling.kind == "window" and force:
        return source.scaling
    modality = "CT" if source.scaling.kind == "window" else "MR"
    value_range = volume.value_range or (source.scaling.lower, source.scaling.upper)
    return IntensityScaling.fit(
        volume.array,
        modality=modality,
        value_range=value_range if source.scaling.kind == "range" else None,
        window_hu=source.input_scaling.window_hu,
        percentiles=source.input_scaling.percentiles,
    )


def half_range(scaling: IntensityScaling) -> float:
    """Return the difference, in the scaling's unit, that corresponds to 1 in the scaled range [-1, 1]."""
    return (scaling.upper - scaling.lower) / 2
