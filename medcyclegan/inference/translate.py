"""Translate a volume from one domain to the other, on the same grid."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import medcyclegan
from medcyclegan.inference.background import restore_air
from medcyclegan.inference.planes import (
    PLANES,
    SpreadSums,
    TranslatedVolume,
    knows_air,
    plan_canvas,
    plane_chunks,
    predict,
    spread_slices,
)
from medcyclegan.inference.runtime.generators import TorchGenerator, check_members, open_generators, open_runners
from medcyclegan.inference.runtime.options import InferenceOptions
from medcyclegan.inference.runtime.precision import Difference, compare
from medcyclegan.inference.runtime.runner import SliceGenerator
from medcyclegan.intensity import IntensityScaling
from medcyclegan.model.bundle import Direction, ModelBundle
from medcyclegan.model.domains import check_modality, half_range, output_modality, source_scaling
from medcyclegan.plane import SAGITTAL, plane_axes
from medcyclegan.progress import progress_bar
from medcyclegan.volume import Derivation, Volume

__all__ = ["Model", "Translation", "load_models", "translate"]

log = logging.getLogger(__name__)

Model = ModelBundle | str | Path

#: Beyond this angle, the use of the acquisition's own closest-to-axial plane is logged.
_OBLIQUE_DEGREES = 2.0
#: Slices on which the reduced precision is compared with float32.
_COMPARED = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Translation:
    """The result of translating one volume.

    ``volume``: the translated volume. ``direction``: the domains, the generator that was used, and the models.
    ``scaling``: how the input was scaled. ``spread``: the standard deviation ``(I, J, K)`` over all predictions of a
    voxel, in the target's unit, if it was requested and there is more than one. ``device``, ``batch_size``: those in
    use at the end. ``fast``: the difference between the reduced precision and float32, if it was used.
    """

    volume: Volume
    direction: Direction
    scaling: IntensityScaling
    spread: NDArray[np.float32] | None
    device: torch.device
    batch_size: int
    fast: Difference | None


def load_models(model: Model | Sequence[Model]) -> list[ModelBundle]:
    """Return each model as a bundle, loading folders; raise ModelError if they do not fit together."""
    models = [model] if isinstance(model, ModelBundle | str | Path) else list(model)
    bundles = [m if isinstance(m, ModelBundle) else ModelBundle.load(m) for m in models]
    check_members(bundles)
    return bundles


def translate(
    volume: Volume, direction: Direction, computing: InferenceOptions, *, force: bool = False, spread: bool = False
) -> Translation:
    """Translate ``volume`` in ``direction``, as the mean of its models; return the details too.

    ``spread``: also compute the standard deviation of the predictions (two more arrays of the volume's size).
    """
    model, target = direction.model, direction.target
    check_modality(volume, direction, force=force)
    scaling = source_scaling(volume, direction.source, force=force)
    _log_geometry(volume, computing)
    passes = {plane: plan_canvas(volume, model, plane) for plane in PLANES[computing.planes]}
    generators = open_generators(direction, computing)
    fast = _measure_fast(volume, direction, scaling, generators[0], computing) if computing.fast else None
    output = TranslatedVolume(volume, target.scaling, list(passes))
    sums = SpreadSums(volume) if spread else None
    skip_air = knows_air(model, scaling)
    with progress_bar("translating", output.slices) as bar:
        for plane, fit in passes.items():
            with open_runners(generators, model, volume, fit, computing) as runners:
                most = max(runner.at_once for runner in runners)
                for part, canvas in plane_chunks(volume, scaling, fit, plane, at_once=most):
                    mirror = computing.tta and plane != SAGITTAL
                    predictions = predict(runners, canvas, fit, mirror=mirror, skip_air=skip_air)
                    output.put(plane, part, predictions.mean)
                    if sums is not None:
                        sums.add(plane, part, predictions)
                    bar.advance(len(canvas))
    deviation = None if sums is None else sums.deviation(half_range(target.scaling))
    if skip_air and target.scaling.kind == "percentile":
        restore_air(output.array, volume, scaling, target.scaling, deviation)
    result = volume.replace(
        array=output.array,
        modality=output_modality(volume, target),
        value_range=(target.scaling.lower, target.scaling.upper) if target.scaling.kind == "range" else None,
        derivation=_derivation(volume, direction, computing),
    )
    return Translation(result, direction, scaling, deviation, generators[0].device, runners[0].batch_size, fast)


def _measure_fast(
    volume: Volume,
    direction: Direction,
    scaling: IntensityScaling,
    fast: SliceGenerator,
    computing: InferenceOptions,
) -> Difference:
    """Measure the error of the reduced precision against float32, on a few slices of this volume."""
    bundle, target = direction.model, direction.target
    fit = plan_canvas(volume, bundle)
    wanted = spread_slices(volume, _COMPARED)
    ((_, canvas),) = plane_chunks(volume, scaling, fit, slices=wanted)
    exact = TorchGenerator(bundle, direction.generator, fast.device, few=True)
    with open_runners([fast, exact], bundle, volume, fit, computing) as runners:
        quick, slow = runners
        difference = compare(quick, slow, canvas, half_range=half_range(target.scaling), unit=target.scaling.unit)
    log.warning("--fast differs from float32 by %s of this input", difference)
    return difference


def _derivation(volume: Volume, direction: Direction, computing: InferenceOptions) -> Derivation:
    before = volume.derivation
    earlier = () if before is None else (*before.settings, f"The input was made by model {before.model_sha256}")
    if volume.synthetic:
        earlier = (*earlier, "The input was synthetic")
    others = tuple(f"Mean with model {bundle.fingerprint}" for bundle in direction.models[1:])
    return Derivation(
        source_domain=direction.source.name,
        target_domain=direction.target.name,
        source_modality=volume.modality or direction.source.modality,
        model_sha256=direction.model.fingerprint,
        version=medcyclegan.__version__,
        input_sha256=volume.content_sha256(),
        settings=(*earlier, *others, *computing.settings),
    )


def _log_geometry(volume: Volume, computing: InferenceOptions) -> None:
    if volume.oblique_degrees > _OBLIQUE_DEGREES:
        log.info(
            "oblique by %.1f degrees: translated along its own closest-to-axial plane (%s)",
            volume.oblique_degrees,
            volume.orientation,
        )
    if computing.planes == "three":
        axes, _ = plane_axes(volume.orientation)
        log.info("three planes: %d slices instead of %d", sum(volume.shape), volume.shape[axes[2]])
