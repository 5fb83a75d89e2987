"""A description of a case in a few numbers, by which unfamiliar inputs are found."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from medcyclegan.inference.translate import Translation
from medcyclegan.plane import plane_axes, plane_view
from medcyclegan.volume import Volume

__all__ = ["describe_case"]

#: Slices are averaged to pixels of about this size, in mm: finer details are noise.
_PIXEL_MM = 3.0
_QUANTILES = (0.02, 0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 0.95)
#: The boundaries of layers by their depth below the surface of the patient in the axial plane, in mm.
_DEPTHS_MM = (0.0, 4.0, 8.0, 14.0, 24.0, 40.0, 1000.0)
#: The boundaries of layers by the distance from the uppermost slice that shows the patient, in mm.
_HEIGHTS_MM = (0.0, 20.0, 40.0, 60.0, 80.0, 100.0, 120.0)

#: Slices with less than this share of the largest area do not show the patient.
_SHOWN = 0.05
#: Scaled values below this are dark: bone, air and fluid in T1.
_DARK = -0.6

Slices = NDArray[np.float32]


def describe_case(volume: Volume, done: Translation, inside: NDArray[np.bool_]) -> list[Slices]:
    """Return groups of numbers that describe the input, its shape and its translation; ``inside`` is the patient.

    Quantiles and contrasts of the values, their profile below the surface and from the vertex down, edges along rows
    and columns, the signal outside the patient, and the outline: all in scaled units or in units of 100 mm, on axial
    slices of about 3 mm pixels. Left and right are exchangeable.
    """
    axes, _ = plane_axes(volume.orientation)
    rows_mm, columns_mm, slices_mm = (volume.spacing_mm[axis] for axis in axes)
    arrays = [done.scaling.normalize(volume.array), done.direction.target.scaling.normalize(done.volume.array)]
    shrink = [max(1, round(_PIXEL_MM / mm)) for mm in (rows_mm, columns_mm)]
    given, made, share = (
        _averaged(plane_view(array, volume.orientation), shrink) for array in (*arrays, inside.astype(np.float32))
    )
    spacing = (rows_mm * shrink[0], columns_mm * shrink[1], slices_mm)
    mask = share > 0.5
    if not mask.any():
        mask = np.ones_like(mask)
    groups = (
        np.quantile(given[mask], _QUANTILES).tolist(),
        np.quantile(made[mask], _QUANTILES).tolist(),
        _profile(given, _depth(mask, spacing), _DEPTHS_MM),
        _outside(given, mask),
        _edges(given, mask, spacing),
        _edges(made, mask, spacing),
        *_outline(given, mask, spacing),
    )
    return [np.array(group, np.float32) for group in groups]


def _averaged(slices: Slices, shrink: list[int]) -> Slices:
    """Return the means of blocks of ``shrink`` pixels of slices (rows, columns, slices)."""
    rows, columns = (n // k for n, k in zip(slices.shape, shrink, strict=False))
    cut = slices[: rows * shrink[0], : columns * shrink[1]]
    means: Slices = cut.reshape(rows, shrink[0], columns, shrink[1], -1).mean(axis=(1, 3))
    return means


def _depth(mask: NDArray[np.bool_], spacing: tuple[float, float, float]) -> Slices:
    """Return the depth of each pixel below the surface in its own slice, in mm; 0 outside."""
    from scipy import ndimage

    padded = np.pad(mask, ((1, 1), (1, 1), (0, 0)))
    layers = [ndimage.distance_transform_edt(padded[:, :, k], sampling=spacing[:2]) for k in range(mask.shape[2])]
    depth: Slices = np.stack(layers, axis=2)[1:-1, 1:-1].astype(np.float32)
    return depth


def _profile(values: Slices, position: Slices, limits: tuple[float, ...]) -> list[float]:
    """Return mean and deviation of the values in layers of a position; those of the whole where a layer is empty."""
    numbers = []
    whole = values[position > limits[0]]
    for lower, upper in itertools.pairwise(limits):
        layer = values[(position > lower) & (position <= upper)]
        layer = layer if layer.size else whole
        numbers += [float(layer.mean()), float(layer.std())]
    return numbers


def _outside(values: Slices, mask: NDArray[np.bool_]) -> list[float]:
    """Return the mean and a high quantile of what is outside the patient, where ghosts and streaks are."""
    from scipy import ndimage

    away = values[~ndimage.binary_dilation(mask, iterations=2)]
    return [float(away.mean()), float(np.quantile(away, 0.98))] if away.size else [-1.0, -1.0]


def _edges(values: Slices, mask: NDArray[np.bool_], spacing: tuple[float, float, float]) -> list[float]:
    """Return the mean first and second differences along rows and columns inside the patient."""
    numbers = []
    for axis in (0, 1):
        if values.shape[axis] < 3:
            numbers += [0.0, 0.0]
            continue
        first = np.gradient(values, spacing[axis], axis=axis)
        numbers += [float(np.abs(first[mask]).mean()), float(np.abs(np.gradient(first, axis=axis)[mask]).mean())]
    return numbers


def _outline(values: Slices, mask: NDArray[np.bool_], spacing: tuple[float, float, float]) -> list[list[float]]:
    """Return groups of numbers: the extents of the patient, then those of layers from the vertex down.

    The second group: the areas of the uppermost and the lowest slice, relative to the largest. Then the layers' area,
    mean value, dark share, how far in front of the outline's center the signal is, and the skewness of the outline from
    front to back. A layer below the field of view repeats the one above.
    """
    area = mask.sum(axis=(0, 1)) * spacing[0] * spacing[1] / 1e4
    shown = np.flatnonzero(area > _SHOWN * area.max())
    below = (shown[-1] - np.arange(mask.shape[2])) * spacing[2]
    rows = np.arange(mask.shape[0]) * spacing[0] / 100
    extents = [
        float(np.count_nonzero(mask.any(axis=axes)) * spacing[n] / 100) for n, axes in ((0, (1, 2)), (1, (0, 2)))
    ]
    layers: list[list[float]] = []
    for lower, upper in itertools.pairwise(_HEIGHTS_MM):
        layer = np.flatnonzero((below >= lower) & (below < upper))
        if mask[:, :, layer].any():
            layers.append(_layer(values[:, :, layer], mask[:, :, layer], rows, float(area[layer].mean())))
        else:
            layers.append(layers[-1] if layers else [float(area.max()), *([0.0] * 4)])
    ends = [float(area[shown[-1]] / area.max()), float(area[shown[0]] / area.max())]
    return [extents, ends, *([*group] for group in zip(*layers, strict=True))]


def _layer(values: Slices, mask: NDArray[np.bool_], rows: NDArray[np.float64], area: float) -> list[float]:
    """Return the numbers of one layer (rows, columns, slices); ``rows``: their positions from front to back."""
    signal = np.where(mask, values + 1, 0)
    weights = mask.sum(axis=(1, 2)) / mask.sum()
    places = rows - (rows * weights).sum()
    deviation = max(float(np.sqrt((places**2 * weights).sum())), 1e-6)
    balance = -float((places[:, None, None] * signal).sum() / max(float(signal.sum()), 1e-6))
    skewness = float((places**3 * weights).sum()) / deviation**3
    return [area, float(values[mask].mean()), float((values[mask] < _DARK).mean()), balance, skewness]
