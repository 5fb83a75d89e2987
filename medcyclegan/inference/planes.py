"""Translate along the slices of one plane, or take the median of three planes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medcyclegan.errors import GeometryError, ModelError
from medcyclegan.inference.runtime.runner import SliceRunner
from medcyclegan.intensity import IntensityScaling
from medcyclegan.model.bundle import ModelBundle
from medcyclegan.plane import (
    AXIAL,
    CORONAL,
    SAGITTAL,
    PlaneFit,
    canvas_fit,
    from_plane,
    plane_axes,
    plane_view,
    to_plane,
)
from medcyclegan.volume import Volume

__all__ = [
    "PLANES",
    "Part",
    "Predictions",
    "SpreadSums",
    "TranslatedVolume",
    "knows_air",
    "plan_canvas",
    "plane_chunks",
    "predict",
    "spread_slices",
]

#: A selection of slices along a plane's axis.
Part = slice | list[int]

#: The planes of each value of ``--planes``.
PLANES = {"axial": (AXIAL,), "three": (AXIAL, CORONAL, SAGITTAL)}

#: Minimum number of slices resampled to their canvas at a time; they are small compared with the feature maps.
_CHUNK = 8
#: A slice is not empty if at least this share of its canvas is above a twentieth of the scaled range: further above air
#: than ``AIR`` (intensity.py), because noise must not count.
_SHOWN, _LEAST_SHOWN = -0.9, 2e-4
#: With fewer voxels along an axis, slices are too small for a network.
_LEAST_VOXELS = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """Several translations of the same slices.

    ``each``: ``(N, 1, H, W)`` in [-1, 1], on the volume's own pixels. ``total``: their sum.
    """

    total: torch.Tensor
    each: tuple[torch.Tensor, ...]

    @property
    def mean(self) -> torch.Tensor:
        """Their mean, ``(N, 1, H, W)``."""
        return self.total / len(self.each)


def plan_canvas(volume: Volume, bundle: ModelBundle, plane: str = AXIAL) -> PlaneFit:
    """Plan how the slices of ``volume`` along ``plane`` are fitted to the canvas of ``bundle``'s generators.

    Raises :class:`~medcyclegan.errors.GeometryError` for a plane other than axial through a volume
    that is too thin for it.
    """
    axes, _ = plane_axes(volume.orientation, plane)
    if plane != AXIAL and min(volume.shape) < _LEAST_VOXELS:
        raise GeometryError(
            f"--planes three on a volume of {' x '.join(map(str, volume.shape))} voxels: it needs "
            f"{_LEAST_VOXELS} along each axis; use --planes axial"
        )
    shape = (volume.shape[axes[0]], volume.shape[axes[1]])
    spacing = (volume.spacing_mm[axes[0]], volume.spacing_mm[axes[1]])
    return canvas_fit(shape, spacing, bundle.preparation, bundle.canvas_multiple())


def plane_chunks(
    volume: Volume,
    scaling: IntensityScaling,
    fit: PlaneFit,
    plane: str = AXIAL,
    *,
    slices: Sequence[int] | None = None,
    at_once: int = _CHUNK,
) -> Iterator[tuple[Part, torch.Tensor]]:
    """Yield the slices of ``volume`` along ``plane``, 8 or more at a time, on their canvas and in [-1, 1].

    Each chunk comes with its indices along the plane's axis; ``slices`` selects some (default: all). Shape:
    ``(N, 1, *fit.canvas)``. The number of slices is a multiple of ``at_once``.
    """
    view = plane_view(volume.array, volume.orientation, plane)
    wanted = range(view.shape[2]) if slices is None else slices
    count = at_once * -(-_CHUNK // at_once)
    for first in range(0, len(wanted), count):
        numbers = wanted[first : first + count]
        part: Part = slice(first, first + len(numbers)) if slices is None else list(numbers)
        values = scaling.normalize(view[:, :, part].transpose(2, 0, 1))
        yield part, to_plane(torch.from_numpy(values)[:, None], fit)


def spread_slices(volume: Volume, count: int) -> list[int]:
    """Return at most ``count`` evenly spaced indices of axial slices, excluding the ends."""
    axes, _ = plane_axes(volume.orientation)
    total = volume.shape[axes[2]]
    return sorted({int((n + 0.5) * total / count) for n in range(count)})


def predict(
    runners: Sequence[SliceRunner], canvas: torch.Tensor, fit: PlaneFit, *, mirror: bool, skip_air: bool = False
) -> Predictions:
    """Translate slices ``(N, 1, *fit.canvas)`` with each runner; with ``mirror``, also mirrored left to right.

    ``skip_air``: set slices that contain only air to the darkest value, without running the generators
    (:func:`knows_air`). Raises :class:`~medcyclegan.errors.ModelError` if a generator returns NaN or infinite values.
    """
    shown = (canvas > _SHOWN).flatten(1).float().mean(1) >= _LEAST_SHOWN
    shown |= not skip_air
    fakes = []
    for run in runners:
        fakes.append(from_plane(_run_shown(run, canvas, shown), fit))
        if mirror:
            fakes.append(from_plane(_run_shown(run, canvas.flip(3), shown).flip(3), fit))
    total = torch.stack(fakes).sum(0) if len(fakes) > 1 else fakes[0]
    if not torch.isfinite(total).all():
        raise ModelError("the generator returned NaN or infinite values: the model is broken; train it again")
    return Predictions(total, tuple(fakes))


def knows_air(bundle: ModelBundle, scaling: IntensityScaling) -> bool:
    """Return whether slices of air can be skipped: air is darkest in CT and MR, but unknown in pictures.

    Training does not include slices of air, and instance normalization turns their noise gray. Networks without
    weights have no such limit.
    """
    has_weights = bool(bundle.graphs) or any(bundle.weights.values())
    return scaling.kind != "range" and has_weights


def _run_shown(run: SliceRunner, canvas: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
    """Translate the slices that are ``shown``; the others become -1."""
    if shown.all():
        return run(canvas)
    fakes = torch.full_like(canvas, -1.0)
    if shown.any():
        fakes[shown] = run(canvas[shown])
    return fakes


class TranslatedVolume:
    """The translated array, filled slice by slice: from one plane, or as the median of three.

    ``array`` ``(I, J, K)`` is in the unit of ``scaling``: integer HU (int16) for CT, otherwise float32. The median
    of three is computed incrementally: the minimum and maximum of the first two planes are stored, and the third is
    clamped to them. Three volumes are therefore never in memory at once.
    """

    def __init__(self, volume: Volume, scaling: IntensityScaling, planes: Sequence[str]) -> None:
        dtype = np.int16 if scaling.unit == "HU" else np.float32
        self.array: NDArray[Any] = np.empty(volume.shape, dtype)
        self.slices = sum(volume.shape[plane_axes(volume.orientation, plane)[0][2]] for plane in planes)
        self._larger = np.empty(volume.shape, dtype) if len(planes) > 1 else None
        self._planes = list(planes)
        self._scaling = scaling
        self._orientation = volume.orientation

    def put(self, plane: str, part: Part, fakes: torch.Tensor) -> None:
        """Store slices ``part`` along ``plane``: ``fakes`` ``(N, 1, H, W)`` in [-1, 1], on the volume's pixels."""
        values: NDArray[Any] = self._scaling.denormalize(fakes[:, 0].permute(1, 2, 0).numpy())
        if self.array.dtype == np.int16:
            values = np.rint(values, out=values).astype(np.int16)
        smaller = plane_view(self.array, self._orientation, plane)[:, :, part]
        number = self._planes.index(plane)
        if number == 0 or self._larger is None:
            smaller[...] = values
            return
        larger = plane_view(self._larger, self._orientation, plane)[:, :, part]
        if number == 1:
            np.maximum(smaller, values, out=larger)
            np.minimum(smaller, values, out=smaller)
        else:
            np.clip(values, smaller, larger, out=smaller)


class SpreadSums:
    """Accumulate the predictions of each voxel to compute their standard deviation."""

    def __init__(self, volume: Volume) -> None:
        self._counts: dict[str, int] = {}
        self._total = np.zeros(volume.shape, np.float32)
        self._squares = np.zeros(volume.shape, np.float32)
        self._orientation = volume.orientation

    def add(self, plane: str, part: Part, predictions: Predictions) -> None:
        """Add the ``predictions`` of the slices ``part`` along ``plane``."""
        squares = torch.stack(predictions.each).square().sum(0)
        for array, sums in ((self._total, predictions.total), (self._squares, squares)):
            plane_view(array, self._orientation, plane)[:, :, part] += sums[:, 0].permute(1, 2, 0).numpy()
        self._counts[plane] = len(predictions.each)

    def deviation(self, half_range: float) -> NDArray[np.float32] | None:
        """Return the standard deviation over the predictions of each voxel, ``(I, J, K)``; None if there is only one.

        ``half_range``: the length of 1 in the scaled range, in the unit of the result.
        """
        count = np.float32(sum(self._counts.values()))
        if count < 2:
            return None
        mean = self._total / count
        variance = self._squares / count
        variance -= mean * mean
        deviation: NDArray[np.float32] = np.sqrt(np.maximum(variance, 0, out=variance), out=variance)
        return deviation * np.float32(half_range)
