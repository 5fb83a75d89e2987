"""Metrics between a translated volume and a reference on the same grid.

Definitions are those of the two SynthRAD challenges, so that scores can be compared (SynthRAD2023: Huijben
et al., Med. Image Anal. 97:103276, 2024, and their repository ``SynthRAD2023/metrics``; SynthRAD2025: their
repository ``SynthRAD2025/evaluation``). Arrays are ``(I, J, K)`` in one unit; ``mask`` is boolean of the same
shape. All scores are computed only inside it: background, which any method gets right, would improve them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medcyclegan.errors import IntensityError
from medcyclegan.metrics.windows import HALF_WINDOW, bounding_box, each_in_threads, mean_similarity

__all__ = ["inside_parts", "mae", "mean_error", "ms_ssim", "ncc", "psnr", "ssim"]

Array = NDArray[Any]
Mask = NDArray[np.bool_]
Range = tuple[float, float]

#: Weights of the five scales (Wang, Simoncelli and Bovik, Asilomar 2003, section 3.2).
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
#: SynthRAD2025 pads smaller volumes to this many voxels along each axis, by repeating their edges.
_SMALLEST = 97
#: Number of voxels over which simple means are computed at a time.
_PART_VOXELS = 1_000_000


def mae(fake: Array, reference: Array, mask: Mask | None = None) -> float:
    """Return the mean absolute error in the mask, in the arrays' unit."""
    return _mean(lambda first, second: np.abs(first - second), fake, reference, mask)


def mean_error(fake: Array, reference: Array, mask: Mask | None = None) -> float:
    """Return the mean of fake - reference in the mask: positive where the fake is too bright."""
    return _mean(lambda first, second: first - second, fake, reference, mask)


def psnr(fake: Array, reference: Array, *, value_range: Range, mask: Mask | None = None) -> float:
    """Return the peak signal-to-noise ratio in the mask in dB, with both volumes clipped to ``value_range``.

    ``10 log10(width of the range squared / mean squared error)``; infinite for equal volumes.
    """

    def square(first: Array, second: Array) -> Array:
        return np.square(np.clip(first, *value_range) - np.clip(second, *value_range))

    mean_square = _mean(square, fake, reference, mask)
    width = value_range[1] - value_range[0]
    return float("inf") if mean_square == 0 else float(10 * np.log10(width**2 / mean_square))


def ncc(fake: Array, reference: Array, mask: Mask | None = None) -> float:
    """Return Pearson's correlation in the mask, -1 to 1; 0 where either is constant."""
    count, sums, products = 0, np.zeros(2), np.zeros(3)
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    shift: tuple[float, float] | None = None
    for first, second in inside_parts(fake, reference, _full(fake, mask)):
        # Values near 0 keep the sums precise; sums of squares of large values would lose digits.
        shift = shift or (float(first.mean()), float(second.mean()))
        a, b = first - shift[0], second - shift[1]
        low, high = np.minimum(low, (a.min(), b.min())), np.maximum(high, (a.max(), b.max()))
        count += a.size
        sums += (a.sum(), b.sum())
        products += (a @ b, a @ a, b @ b)
    products -= (sums[0] * sums[1] / count, sums[0] ** 2 / count, sums[1] ** 2 / count)
    norm = float(np.sqrt(max(products[1], 0.0)) * np.sqrt(max(products[2], 0.0)))
    return 0.0 if norm == 0 or (low == high).any() else float(products[0]) / norm


def ssim(fake: Array, reference: Array, *, value_range: Range, mask: Mask | None = None) -> float:
    """Return the structural similarity in the mask as SynthRAD2023 defines it, at most 1.

    Both volumes are clipped to ``value_range`` and set to its lower end outside the mask. The map of
    scikit-image's ``structural_similarity`` with its defaults (uniform window 7 x 7 x 7, sample covariance, K1
    0.01, K2 0.03; Wang et al., IEEE Trans. Image Process. 13:600, 2004) is averaged over the mask, without the
    three voxels next to the borders. Along an axis of fewer than 7 voxels the window is 1, so a thin volume is
    scored slice by slice.
    """
    fake, reference, where = _in_memory_order(fake, reference, _full(fake, mask))
    box = bounding_box(where, margin=2 * HALF_WINDOW)
    first, second = (_prepared(array[box], where[box], value_range) for array in (fake, reference))
    return mean_similarity(first, second, where[box], _constants(value_range))


def ms_ssim(fake: Array, reference: Array, *, value_range: Range, mask: Mask | None = None) -> float:
    """Return the multi-scale structural similarity in the mask as SynthRAD2025 computes it, 0 to 1.

    It is the product over five scales of the masked mean of ``(luminance x contrast x structure) ** weight``, each
    factor clipped at 0; luminance counts at every scale, as in the code of the challenge. Volumes are padded to
    97 voxels by repeating their edges. Each further scale is the mean of 2 x 2 x 2 voxels at every other voxel, with
    zeros outside. A scale at which the mask contains only the three excluded border voxels is scored with them; a
    scale without any voxel in the mask is skipped (the code of the challenge returns NaN for both).
    """
    fake, reference, where = _in_memory_order(fake, reference, _full(fake, mask))
    widths = [(_missing(n) // 2, _missing(n) - _missing(n) // 2) for n in where.shape]
    if np.any(widths):
        fake, reference, where = (np.pad(array, widths, mode="edge") for array in (fake, reference, where))
    box = bounding_box(where, margin=64, multiple=16)
    where = where[box]
    first, second = (_prepared(array[box], where, value_range) for array in (fake, reference))
    product = 1.0
    for weight in _SCALE_WEIGHTS:
        if not where.any():
            break
        mean = mean_similarity(first, second, where, _constants(value_range), power=weight)
        product *= min(max(mean, 0.0), 1.0)
        first, second, where = _halved(first), _halved(second), where[::2, ::2, ::2]
    return product


def _constants(value_range: Range) -> tuple[float, float]:
    """Return C1 and C2 of the structural similarity."""
    width = value_range[1] - value_range[0]
    return (0.01 * width) ** 2, (0.03 * width) ** 2


def _halved(array: Array) -> Array:
    """Return the mean of each even voxel and its predecessor along every axis, with zeros before the first."""
    for axis in range(3):
        along = (slice(None),) * axis
        halved = array[(*along, slice(None, None, 2))].copy()
        halved[(*along, slice(1, None))] += array[(*along, slice(1, array.shape[axis] - 1, 2))]
        halved *= 0.5
        array = halved
    return array


def _missing(length: int) -> int:
    return max(_SMALLEST - length, 0)


def _prepared(array: Array, mask: Mask, value_range: Range) -> NDArray[np.float32]:
    """Return the clipped array minus the lower end of its range, with 0 outside the mask."""
    lower, upper = value_range
    values = np.empty(array.shape, np.float32)

    def prepare(slices: range) -> None:
        for n in slices:  # one slice stays in the cache
            values[n] = array[n]
            np.clip(values[n], lower, upper, out=values[n])
            values[n] -= np.float32(lower)
            np.copyto(values[n], 0, where=~mask[n])

    each_in_threads(prepare, len(values))
    return values


def _full(array: Array, mask: Mask | None) -> Mask:
    where = np.ones(array.shape, dtype=np.bool_) if mask is None else np.asarray(mask, dtype=np.bool_)
    if not where.any():
        raise IntensityError("an empty mask: there is no voxel to score; give a mask that covers the patient")
    return where


def _in_memory_order(fake: Array, reference: Array, mask: Mask) -> tuple[Array, Array, Mask]:
    """Return the arrays with reversed axes if the first index of the fake runs fastest; no score depends on it."""
    if fake.strides[0] < fake.strides[-1]:
        return fake.T, reference.T, mask.T
    return fake, reference, mask


def _mean(term: Callable[[Array, Array], Array], fake: Array, reference: Array, mask: Mask | None) -> float:
    """Return the mean of ``term`` over the mask."""
    where = _full(fake, mask)
    total = sum(float(term(first, second).sum()) for first, second in inside_parts(fake, reference, where))
    return total / int(np.count_nonzero(where))


def inside_parts(fake: Array, reference: Array, mask: Mask) -> Iterator[tuple[Array, Array]]:
    """Yield the values in the mask as pairs of 1-D float64 arrays, some slices at a time.

    For a large volume, processing all values at once would dominate time and memory.
    """
    fake, reference, mask = _in_memory_order(fake, reference, mask)
    rows = max(1, _PART_VOXELS // max(1, fake[0].size))
    for start in range(0, len(fake), rows):
        part = slice(start, start + rows)
        where = mask[part]
        if where.any():
            yield fake[part][where].astype(np.float64), reference[part][where].astype(np.float64)
