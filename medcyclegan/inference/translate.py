"""``translate_volume``: a volume of one domain becomes a volume of the other, on the same grid."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import medcyclegan
from medcyclegan.errors import IntensityError, ModelError
from medcyclegan.inference.bundle import DomainModel, ModelBundle
from medcyclegan.inference.device import choose_device
from medcyclegan.intensity import IntensityScaling, check_hu
from medcyclegan.progress import progress_bar
from medcyclegan.slicing.plane import PlaneFit, axial_axes, axial_view, canvas_fit, from_plane, to_plane
from medcyclegan.volume import Derivation, Volume

__all__ = ["check_modality", "choose_target", "output_modality", "source_scaling", "translate_volume"]

log = logging.getLogger(__name__)

#: Beyond this, an acquisition's own closest-to-axial plane is worth a word.
_OBLIQUE_DEGREES = 2.0


def translate_volume(
    volume: Volume,
    model: ModelBundle | str,
    to: str | None = None,
    *,
    device: str = "auto",
    batch_size: int = 8,
    force: bool = False,
) -> Volume:
    """Translate ``volume`` into the domain ``to`` with ``model`` (a bundle, or its folder).

    The result has the input's shape ``(I, J, K)``, affine and source; its values are in the target's
    unit: whole HU for CT (int16), else float32; its ``derivation`` says how they were made. ``to``
    defaults to the model's second domain, or to its first where only the second takes the input's
    modality. ``force`` accepts an input of a modality that the model was not trained on.

    Raises :class:`~medcyclegan.errors.ModelError` for a domain that the model does not know, and
    :class:`~medcyclegan.errors.IntensityError` for an input that is of another modality, not in HU
    where it must be, or without contrast.
    """
    bundle = model if isinstance(model, ModelBundle) else ModelBundle.load(model)
    name, source, target = bundle.direction(to or choose_target(volume, bundle))
    where = choose_device(device)
    check_modality(volume, source, force=force)
    scaling = source_scaling(volume, source, force=force)
    _say_geometry(volume)
    rows, columns, _ = axial_view(volume.array, volume.orientation).shape
    spacing = [volume.spacing_mm[axis] for axis in _plane_axes(volume)]
    fit = canvas_fit((rows, columns), (spacing[0], spacing[1]), bundle.preparation, bundle.canvas_multiple())
    network = bundle.build(name).to(where)
    translate = functools.partial(_translate_slices, network=network, fit=fit, device=where)
    array = _translate_array(volume, translate, scaling, target.scaling, batch_size)
    value_range = (target.scaling.lower, target.scaling.upper) if target.scaling.kind == "range" else None
    return volume.replace(
        array=array,
        modality=output_modality(volume, target),
        value_range=value_range,
        derivation=_derivation(volume, source, target, bundle.fingerprint),
    )


def output_modality(volume: Volume, target: DomainModel) -> str | None:
    """Return the modality of what ``volume`` becomes in the domain ``target``."""
    return target.modality if target.modality in ("CT", "MR") else volume.modality


def choose_target(volume: Volume, bundle: ModelBundle) -> str:
    """Return the domain to translate to where none is named: B, or A where only B fits the input."""
    a, b = bundle.domains
    fits_a, fits_b = (_fits(volume, domain) for domain in (a, b))
    target = a if fits_b and not fits_a else b
    log.warning("translating to %s (choose with --to %s or --to %s)", target.name, a.name, b.name)
    return target.name


def check_modality(volume: Volume, source: DomainModel, *, force: bool) -> None:
    """Refuse an input that is not of the source domain's modality, unless ``force``.

    What the file says counts; where it says nothing, a volume in Hounsfield units is a CT.
    """
    if _fits(volume, source):
        return
    if volume.modality is None and source.modality == "CT" and not force:
        try:
            check_hu(volume.array)
        except IntensityError as error:
            raise IntensityError(f"{error}; where it is no CT, translate the other way with --to") from None
    found = volume.modality or ("no CT (its values are not in HU)" if source.modality == "CT" else "CT (in HU)")
    message = f"the input is {found}, but the model's {source.name} is {source.modality}"
    if not force:
        raise IntensityError(f"{message}: translate the other way with --to, or accept it with --force")
    log.warning("%s; going on as --force asks", message)


def _fits(volume: Volume, domain: DomainModel) -> bool:
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


def _derivation(volume: Volume, source: DomainModel, target: DomainModel, model_sha256: str) -> Derivation:
    before = volume.derivation
    settings = () if before is None else (*before.settings, f"The input was made by model {before.model_sha256}")
    return Derivation(
        source_domain=source.name,
        target_domain=target.name,
        source_modality=volume.modality or source.modality,
        model_sha256=model_sha256,
        version=medcyclegan.__version__,
        input_sha256=volume.content_sha256(),
        settings=settings,
    )


def _plane_axes(volume: Volume) -> tuple[int, int]:
    axes, _ = axial_axes(volume.orientation)
    return axes[0], axes[1]


def _say_geometry(volume: Volume) -> None:
    if volume.oblique_degrees > _OBLIQUE_DEGREES:
        log.info(
            "oblique by %.1f degrees: translated along its own closest-to-axial plane (%s)",
            volume.oblique_degrees,
            volume.orientation,
        )


@torch.inference_mode()
def _translate_slices(
    slices: NDArray[np.float32], *, network: nn.Module, fit: PlaneFit, device: torch.device
) -> NDArray[np.float32]:
    """Translate slices ``(N, H, W)`` in [-1, 1] on their own pixels."""
    real = torch.from_numpy(slices)[:, None].to(device)
    fake = from_plane(network(to_plane(real, fit)), fit)
    translated: NDArray[np.float32] = fake[:, 0].float().cpu().numpy()
    return translated


def _translate_array(
    volume: Volume,
    translate: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    scaling: IntensityScaling,
    target: IntensityScaling,
    batch_size: int,
) -> NDArray[Any]:
    """Return the translated array ``(I, J, K)``; slices pass in batches, so memory stays bounded."""
    output = np.empty(volume.shape, np.int16 if target.unit == "HU" else np.float32)
    source_view, output_view = (axial_view(array, volume.orientation) for array in (volume.array, output))
    count = source_view.shape[2]
    with progress_bar("translating", count) as bar:
        for first in range(0, count, batch_size):
            part = slice(first, min(first + batch_size, count))
            values = target.denormalize(translate(scaling.normalize(source_view[:, :, part].transpose(2, 0, 1))))
            if not np.isfinite(values).all():
                raise ModelError("the generator gave NaN or infinite values: the model is broken; train it again")
            output_view[:, :, part] = (np.rint(values) if target.unit == "HU" else values).transpose(1, 2, 0)
            bar.advance(part.stop - part.start)
    return output
