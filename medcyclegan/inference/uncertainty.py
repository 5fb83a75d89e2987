"""Where a translation is not to be believed: the way back, and how far predictions lie apart."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medcyclegan.inference.planes import Part, knows_air, plan_canvas, plane_chunks, predict
from medcyclegan.inference.runtime.generators import open_generators, open_runners
from medcyclegan.inference.runtime.options import InferenceOptions
from medcyclegan.inference.translate import Translation
from medcyclegan.model.bundle import ModelBundle
from medcyclegan.model.domains import AIR, half_range
from medcyclegan.plane import from_plane, plane_view, to_plane
from medcyclegan.progress import progress_bar
from medcyclegan.volume import Volume

__all__ = ["cycle_error", "cycle_residuals", "uncertainty_map"]

#: Residuals are averaged over about this width, for noise, which no translation brings back, is no error.
_SMOOTHING_MM = 3.0


def uncertainty_map(
    volume: Volume, done: Translation, bundles: Sequence[ModelBundle], computing: InferenceOptions
) -> Volume:
    """Return how far each voxel of the translation ``done`` of ``volume`` may be off, on the same grid.

    In the target's unit, 0 where nothing speaks against a voxel: the residual of the cycle
    ``|G_BA(G_AB(x)) - x|``, as a share of the input's range taken of the target's, and the standard
    deviation over the predictions (mirrored slices, planes, models), where there are several, added
    in squares. A hint where to look: what a generator gets wrong and brings back all the same, it does
    not show.
    """
    residual = np.empty(volume.shape, np.float32)
    view = plane_view(residual, volume.orientation)
    with progress_bar("the way back", view.shape[2]) as bar:
        for part, values in cycle_residuals(volume, done, bundles, computing):
            view[:, :, part] = values.transpose(1, 2, 0)
            bar.advance(len(values))
    sigma = [0.5 * _SMOOTHING_MM / mm for mm in volume.spacing_mm]
    ndimage.gaussian_filter(residual, sigma, output=residual, mode="nearest")
    residual *= np.float32(half_range(done.target.scaling))
    uncertainty = residual if done.spread is None else np.hypot(residual, done.spread, out=residual)
    return done.volume.replace(array=uncertainty, modality=None, value_range=None)


def cycle_error(
    volume: Volume,
    done: Translation,
    bundles: Sequence[ModelBundle],
    computing: InferenceOptions,
    slices: Sequence[int],
) -> float:
    """Return the mean cycle residual over the foreground of some axial ``slices``, as a share of the input's range."""
    total, count = 0.0, 0
    for part, values in cycle_residuals(volume, done, bundles, computing, slices):
        shown = done.scaling.normalize(plane_view(volume.array, volume.orientation)[:, :, part]) > AIR
        total += float(values.transpose(1, 2, 0)[shown].sum(dtype=np.float64))
        count += int(np.count_nonzero(shown))
    return total / max(1, count) / 2


def cycle_residuals(
    volume: Volume,
    done: Translation,
    bundles: Sequence[ModelBundle],
    computing: InferenceOptions,
    slices: Sequence[int] | None = None,
) -> Iterator[tuple[Part, NDArray[np.float32]]]:
    """Translate the axial slices of ``done`` back and yield how far they come out from ``volume``'s.

    ``(N, H, W)`` on the volume's own pixels, in units of the scaled range [-1, 1]; with the indices of
    the slices. The input is resampled as often as the way there and back is, so that resampling does
    not count; what the first generator hid below the output's precision is lost, as it should be.
    """
    name, _, _ = bundles[0].direction(done.source.name)
    fit = plan_canvas(volume, bundles[0])
    generators = open_generators(bundles, name, computing, few=slices is not None)
    skip_air = knows_air(bundles[0], done.scaling)
    context = bundles[0].generator.context_slices
    with open_runners(generators, bundles[0], volume, fit, computing) as runners:
        most = max(runner.at_once for runner in runners)
        chunks = functools.partial(plane_chunks, fit=fit, slices=slices, at_once=most)
        reals = chunks(volume, done.scaling)
        fakes = chunks(done.volume, done.target.scaling, context=context)
        for (part, real), (_, fake) in zip(reals, fakes, strict=True):
            rec = predict(runners, fake, fit, mirror=False, skip_air=skip_air).mean
            resampled = from_plane(to_plane(from_plane(real, fit), fit), fit)
            yield part, (rec - resampled).abs()[:, 0].numpy()
