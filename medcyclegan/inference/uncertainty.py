"""Estimate the uncertainty of a translation from the cycle error and the spread of predictions."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from medcyclegan.inference.planes import Part, knows_air, plan_canvas, plane_chunks, predict
from medcyclegan.inference.runtime.generators import open_generators, open_runners
from medcyclegan.inference.runtime.options import InferenceOptions
from medcyclegan.inference.translate import Translation
from medcyclegan.intensity import AIR
from medcyclegan.model.domains import half_range
from medcyclegan.plane import from_plane, plane_view, to_plane
from medcyclegan.progress import progress_bar
from medcyclegan.volume import Volume

__all__ = ["cycle_error", "cycle_residuals", "uncertainty_map"]

#: Residuals are averaged over about this width, because noise, which no cycle restores, is not an error.
_SMOOTHING_MM = 3.0


def uncertainty_map(volume: Volume, done: Translation, computing: InferenceOptions) -> Volume:
    """Return the uncertainty of each voxel of the translation ``done`` of ``volume``, on the same grid.

    It is in the target's unit, and 0 means that no uncertainty was found. It combines two terms as the root of the sum
    of squares: the cycle residual ``|G_BA(G_AB(x)) - x|``, as a share of the input's range applied to the
    target's range, and, if there are several predictions (mirrored slices, planes, models), their standard deviation.
    It only indicates where to look: errors that the reverse generator restores do not appear in it.
    """
    from scipy import ndimage

    residual = np.empty(volume.shape, np.float32)
    view = plane_view(residual, volume.orientation)
    with progress_bar("translating back", view.shape[2]) as bar:
        for part, values in cycle_residuals(volume, done, computing):
            view[:, :, part] = values.transpose(1, 2, 0)
            bar.advance(len(values))
    sigma = [0.5 * _SMOOTHING_MM / mm for mm in volume.spacing_mm]
    ndimage.gaussian_filter(residual, sigma, output=residual, mode="nearest")
    residual *= np.float32(half_range(done.direction.target.scaling))
    uncertainty = residual if done.spread is None else np.hypot(residual, done.spread, out=residual)
    return done.volume.replace(array=uncertainty, modality=None, value_range=None)


def cycle_error(
    volume: Volume,
    done: Translation,
    computing: InferenceOptions,
    slices: Sequence[int],
) -> float:
    """Return the mean cycle residual over the foreground of some axial ``slices``, as a share of the input's range."""
    total, count = 0.0, 0
    for part, values in cycle_residuals(volume, done, computing, slices):
        shown = done.scaling.normalize(plane_view(volume.array, volume.orientation)[:, :, part]) > AIR
        total += float(values.transpose(1, 2, 0)[shown].sum(dtype=np.float64))
        count += int(np.count_nonzero(shown))
    return total / max(1, count) / 2


def cycle_residuals(
    volume: Volume,
    done: Translation,
    computing: InferenceOptions,
    slices: Sequence[int] | None = None,
) -> Iterator[tuple[Part, NDArray[np.float32]]]:
    """Translate the axial slices of ``done`` back and yield their absolute differences from ``volume``'s slices.

    Each item is the slices' indices and the differences ``(N, H, W)`` on the volume's own pixels, in units of the
    scaled range [-1, 1]. The input is resampled as often as the cycle is, so that resampling does not
    count. Information that the first generator hid below the output's precision is lost, as intended.
    """
    model = done.direction.model
    fit = plan_canvas(volume, model)
    generators = open_generators(done.direction.reverse, computing, few=slices is not None)
    skip_air = knows_air(model, done.scaling)
    with open_runners(generators, model, volume, fit, computing) as runners:
        most = max(runner.at_once for runner in runners)
        chunks = functools.partial(plane_chunks, fit=fit, slices=slices, at_once=most)
        reals = chunks(volume, done.scaling)
        fakes = chunks(done.volume, done.direction.target.scaling)
        for (part, real), (_, fake) in zip(reals, fakes, strict=True):
            rec = predict(runners, fake, fit, mirror=False, skip_air=skip_air).mean
            resampled = from_plane(to_plane(from_plane(real, fit), fit), fit)
            yield part, (rec - resampled).abs()[:, 0].numpy()
