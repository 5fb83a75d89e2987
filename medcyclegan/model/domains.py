"""Which of a model's domains a volume belongs to, and how its values are scaled."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from medcyclegan.errors import IntensityError, ModalityError, UsageError
from medcyclegan.intensity import IntensityScaling, check_hu, looks_like_hu
from medcyclegan.model.bundle import Direction, DomainModel, ModelBundle, direction_to, directions_of
from medcyclegan.model.contrast_names import contrasts_in
from medcyclegan.volume import Volume

__all__ = [
    "check_modality",
    "choose_direction",
    "choose_target",
    "fits_domain",
    "half_range",
    "output_modality",
    "source_scaling",
    "unfit_reason",
]

log = logging.getLogger(__name__)


def output_modality(volume: Volume, target: DomainModel) -> str | None:
    """Return the modality of the translation of ``volume`` into the domain ``target``."""
    return target.modality if target.modality in ("CT", "MR") else volume.modality


def choose_direction(
    volume: Volume, models: Sequence[ModelBundle], to: str | None = None, *, name: str = ""
) -> Direction:
    """Return the direction into the domain ``to``; by default into B, or into A if the input fits only B.

    ``models``: their translations are averaged. ``name``: that of the input's file. Raises
    :class:`~medcyclegan.errors.ModelError` for a domain that the models do not have, and
    :class:`~medcyclegan.errors.UsageError` without ``to`` if ``name`` contains the contrast that the output would have,
    and not the other one.
    """
    if to:
        return direction_to(models, to)
    a_to_b, b_to_a = directions_of(models)
    a, b = a_to_b.source, a_to_b.target
    fits_a, fits_b = (fits_domain(volume, domain) for domain in (a, b))
    chosen = b_to_a if fits_b and not fits_a else a_to_b
    source, target = chosen.source.name.lower(), chosen.target.name.lower()
    if {target} == contrasts_in(name) & {source, target}:
        raise UsageError(
            f"{name} is {chosen.target.name} by its name, and so would be the output without --to",
            remedy=f"choose with --to {chosen.source.name} or --to {chosen.target.name}",
        )
    log.info("translating to %s (choose with --to %s or --to %s)", chosen.target.name, a.name, b.name)
    return chosen


def choose_target(models: Sequence[ModelBundle], to: str | None, modalities: Collection[str | None]) -> Direction:
    """Return the direction for many volumes: into ``to``; by default into B, or into A if they fit only B.

    ``modalities``: those that the headers of the volumes state. Raises :class:`~medcyclegan.errors.ModelError` for a
    domain that the model does not have.
    """
    if to:
        return direction_to(models, to)
    a_to_b, b_to_a = directions_of(models)
    a, b = a_to_b.source, a_to_b.target
    only_b = b.modality in modalities and a.modality is not None and a.modality not in modalities
    chosen = b_to_a if only_b and b.modality is not None else a_to_b
    log.warning("translating to %s (choose with --to %s or --to %s)", chosen.target.name, a.name, b.name)
    return chosen


def unfit_reason(modality: str | None, names: Sequence[str], direction: Direction, *, is_picture: bool = False) -> str:
    """Return why a volume is not one of the source domain's, as far as its header and its names show; else "".

    ``modality``: that in the header, if there is one. ``names``: those of its folders, the outermost first, and of its
    file. The innermost one that contains either contrast of ``direction`` counts.
    """
    source, target = direction.source, direction.target
    if modality is not None and source.modality is not None and modality != source.modality:
        return f"it is {modality}, and the model's {source.name} is {source.modality}"
    if is_picture and source.scaling.kind != "range":
        return f"it is a picture, and the model's {source.name} is {source.modality or 'a volume'}"
    both = {target.name.lower(), source.name.lower()}
    named = next((found for name in reversed(names) if (found := contrasts_in(name) & both)), set())
    if named == {target.name.lower()}:
        return f"it is {target.name} by the name of its file or folder, and so would be the output"
    return ""


def check_modality(volume: Volume, direction: Direction, *, force: bool) -> None:
    """Reject an input that is not of the source domain's modality, unless ``force``.

    The modality is the one in the file; if the file has none, a volume in Hounsfield units counts as CT. The message
    suggests the other direction only if the input is of the target's modality.

    Raises :class:`~medcyclegan.errors.ModalityError`, and :class:`~medcyclegan.errors.IntensityError` for a file that
    states no modality and whose values are not in HU where a CT is expected: it could be a damaged CT.
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
        raise ModalityError(f"{message}: {remedy}, or accept it with --force")
    log.warning("%s; continuing because of --force", message)


def fits_domain(volume: Volume, domain: DomainModel) -> bool:
    """Return whether ``volume`` is of the domain's modality, as far as the file and its values show."""
    if domain.modality is None or volume.modality == domain.modality:
        return True
    if volume.modality is not None:
        return False
    return looks_like_hu(volume.array) == (domain.modality == "CT")


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
