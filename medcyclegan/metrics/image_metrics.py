"""Metrics between a translated volume and a reference on the same grid.

Definitions are those of the two SynthRAD challenges, so that scores can be compared (SynthRAD2023: Huijben
et al., Med. Image Anal. 97:103276, 2024, and their repository ``SynthRAD2023/metrics``; SynthRAD2025: their
repository ``SynthRAD2025/evaluation``). Arrays are ``(I, J, K)`` in one unit; ``mask`` is boolean of the same
shape. All scores are computed only inside it: background, which any method gets right, would improve them.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medcyclegan.errors import IntensityError

__all__ = ["inside_parts", "mae", "mean_error", "ms_ssim", "ncc", "psnr", "ssim"]

Array = NDArray[Any]
Mask = NDArray[np.bool_]
Range = tuple[float, float]
Box = tuple[slice, slice, slice]

#: Edge of the uniform window, scikit-image's default; borders of half a window are excluded.
_WINDOW = 7
#: Weights of the five scales (Wang, Simoncelli and Bovik, Asilomar 2003, section 3.2).
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
#: SynthRAD2025 pads smaller volumes to this many voxels along each axis, by repeating their edges.
_SMALLEST = 97
#: Number of voxels over which simple means are computed at a time.
_PART_VOXELS = 1_000_000
#: Edge of a block that is filtered at a time, in voxels.
_BLOCK = 96
#: More threads than this only cost memory.
_THREADS = 4


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
    first, second = (_prepared(array, where, value_range) for array in (fake, reference))
    width = value_range[1] - value_range[0]
    c1, c2 = (0.01 * width) ** 2, (0.03 * width) ** 2

    def score(local: _Local) -> Array:
        luminance = (2 * local.mean_1 * local.mean_2 + c1) / (local.mean_1**2 + local.mean_2**2 + c1)
        return luminance * (2 * local.covariance + c2) / (local.variance_1 + local.variance_2 + c2)

    return _mean_in_mask(first, second, where, score)


def ms_ssim(fake: Array, reference: Array, *, value_range: Range, mask: Mask | None = None) -> float:
    """Return the multi-scale structural similarity in the mask as SynthRAD2025 computes it, 0 to 1.

    It is the product over five scales of the masked mean of ``(luminance x contrast x structure) ** weight``, each
    factor clipped at 0; luminance counts at every scale, as in the code of the challenge. Volumes are padded to
    97 voxels by repeating their edges. Each further scale is the mean of 2 x 2 x 2 voxels at every other voxel, with
    zeros outside. A scale at which the mask contains only the three excluded border voxels is scored with them; a
    scale without any voxel in the mask is skipped (the code of the challenge returns NaN for both).
    """
    fake, reference, where = _in_memory_order(fake, reference, _full(fake, mask))
    first, second = (_prepared(array, where, value_range) for array in (fake, reference))
    widths = [(_missing(n) // 2, _missing(n) - _missing(n) // 2) for n in where.shape]
    if np.any(widths):
        first, second = (np.pad(array, widths, mode="edge") for array in (first, second))
        where = np.pad(where, widths, mode="edge")
    box = _box(where, margin=64, multiple=16)
    first, second, where = first[box], second[box], where[box]
    width = value_range[1] - value_range[0]
    c1, c2 = (0.01 * width) ** 2, (0.03 * width) ** 2
    product = 1.0
    for weight in _SCALE_WEIGHTS:

        def score(local: _Local, weight: float = weight) -> Array:
            spread_1, spread_2 = (np.sqrt(np.maximum(v, 0)) for v in (local.variance_1, local.variance_2))
            luminance = (2 * local.mean_1 * local.mean_2 + c1) / (local.mean_1**2 + local.mean_2**2 + c1)
            contrast = (2 * spread_1 * spread_2 + c2) / (local.variance_1 + local.variance_2 + c2)
            structure = (local.covariance + c2 / 2) / (spread_1 * spread_2 + c2 / 2)
            # One power of the product is three times as fast as the powers of the three factors.
            return (np.maximum(luminance, 0) * np.maximum(contrast, 0) * np.maximum(structure, 0)) ** weight

        if not where.any():
            break
        product *= min(max(_mean_in_mask(first, second, where, score), 0.0), 1.0)
        first, second, where = _halved(first), _halved(second), where[::2, ::2, ::2]
    return product


@dataclasses.dataclass(frozen=True)
class _Local:
    """Windowed statistics of two volumes at the same voxels."""

    mean_1: Array
    mean_2: Array
    variance_1: Array
    variance_2: Array
    covariance: Array


def _mean_in_mask(first: Array, second: Array, mask: Mask, score: Callable[[_Local], Array]) -> float:
    """Return the mean of ``score`` over the mask, leaving out half a window along the borders.

    Only the surroundings of the mask are filtered, in blocks, so that the extra memory stays small; threads share
    the blocks.
    """
    halves = [_WINDOW // 2 if n >= _WINDOW else 0 for n in mask.shape]
    inner = np.zeros_like(mask)
    middle = tuple(slice(half, n - half) for half, n in zip(halves, mask.shape, strict=True))
    inner[middle] = mask[middle]
    if not inner.any():
        widths = [(half, half) for half in halves]
        first, second = (np.pad(array, widths, mode="symmetric") for array in (first, second))
        inner = np.pad(mask, widths)
    blocks = [block for block in _blocks(_box(inner, margin=0, multiple=1)) if inner[block].any()]
    sums = np.zeros(len(blocks))
    workers = min(_THREADS, len(os.sched_getaffinity(0)), len(blocks))

    def add_up(worker: int) -> None:
        buffers = np.empty((3, *(_BLOCK + 2 * half for half in halves)))
        for n in range(worker, len(blocks), workers):
            local = _statistics(first, second, blocks[n], inner[blocks[n]], buffers)
            sums[n] = score(local).sum()

    # scipy's filters release the interpreter lock. The sums of the blocks are added in order, so the result does not
    # depend on which thread finishes first.
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(add_up, range(workers)))
    return float(sums.sum()) / int(np.count_nonzero(inner))


def _statistics(first: Array, second: Array, block: Box, where: Mask, buffers: NDArray[np.float64]) -> _Local:
    """Return the windowed statistics at the voxels ``where`` of ``block``, in float64.

    ``buffers`` ``(3, ...)``, as large as the block plus half a window on each side, are overwritten: allocating such
    memory for each block would take as long as the filters.
    """
    halves = [(n - _BLOCK) // 2 for n in buffers.shape[1:]]
    region = tuple(slice(s.start - half, s.stop + half) for s, half in zip(block, halves, strict=True))
    size = [2 * half + 1 for half in halves]
    middle = tuple(slice(half, half + s.stop - s.start) for s, half in zip(block, halves, strict=True))
    a, b, work = (buffer[tuple(slice(s.stop - s.start) for s in region)] for buffer in buffers)
    a[:], b[:] = first[region], second[region]

    def mean(array: Array, factor: Array | None = None) -> Array:
        if factor is not None:
            array = np.multiply(array, factor, out=work)
        ndimage.uniform_filter(array, size=size, output=work)
        return work[middle][where]

    voxels = float(np.prod(size))
    unbiased = voxels / max(voxels - 1, 1)
    mean_1, mean_2 = mean(a), mean(b)
    return _Local(
        mean_1,
        mean_2,
        unbiased * (mean(a, a) - mean_1 * mean_1),
        unbiased * (mean(b, b) - mean_2 * mean_2),
        unbiased * (mean(a, b) - mean_1 * mean_2),
    )


def _blocks(box: Box) -> Iterator[Box]:
    """Yield the blocks of a box, of at most ``_BLOCK`` voxels per edge."""
    parts = [[slice(n, min(n + _BLOCK, s.stop)) for n in range(s.start, s.stop, _BLOCK)] for s in box]
    for i in parts[0]:
        for j in parts[1]:
            for k in parts[2]:
                yield i, j, k


def _halved(array: Array) -> Array:
    """Return the mean of each even voxel and its predecessor along every axis, with zeros before the first."""
    for axis in range(3):
        along = (slice(None),) * axis
        halved = array[(*along, slice(None, None, 2))] / 2
        before = array[(*along, slice(1, array.shape[axis] - 1, 2))]
        halved[(*along, slice(1, None))] += before / 2
        array = halved
    return array


def _missing(length: int) -> int:
    return max(_SMALLEST - length, 0)


def _box(mask: Mask, *, margin: int, multiple: int) -> Box:
    """Return the mask's bounding box with a margin, its lower corner at multiples of ``multiple``."""
    slices = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(axis=tuple(n for n in range(3) if n != axis)))
        start = max(int(used[0]) - margin, 0) // multiple * multiple
        slices.append(slice(start, min(int(used[-1]) + 1 + margin, mask.shape[axis])))
    return slices[0], slices[1], slices[2]


def _prepared(array: Array, mask: Mask, value_range: Range) -> NDArray[np.float32]:
    """Return the clipped array minus the lower end of its range, with 0 outside the mask."""
    lower, upper = value_range
    values = array.astype(np.float32)
    np.clip(values, lower, upper, out=values)
    values -= np.float32(lower)
    values[~mask] = 0
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
