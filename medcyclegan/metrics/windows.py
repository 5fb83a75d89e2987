"""Means over a sliding window of two volumes, and the structural similarity that is computed from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medcyclegan.cpus import usable_cpus

__all__ = ["HALF_WINDOW", "Box", "bounding_box", "each_in_threads", "mean_similarity"]

Array = NDArray[Any]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Box = tuple[slice, slice, slice]

#: Edge of the uniform window, scikit-image's default; borders of half a window are excluded.
_WINDOW = 7
HALF_WINDOW = _WINDOW // 2
#: Edges of a block that is computed at a time, in voxels; its arrays fit in the cache of a core.
_BLOCK = (32, 64, 64)
#: More threads than this only cost memory.
_THREADS = 4


def mean_similarity(
    first: Array, second: Array, mask: Mask, constants: tuple[float, float], *, power: float | None = None
) -> float:
    """Return the mean over the mask of luminance x contrast x structure, leaving out half a window along the borders.

    With the means m, variances v and covariance c of a window of 7 x 7 x 7 voxels, and the ``constants`` C1 and C2:
    ``(2 m1 m2 + C1) / (m1^2 + m2^2 + C1) * (2 c + C2) / (v1 + v2 + C2)``. The second factor is contrast x structure,
    in which the product of the standard deviations cancels if C3 = C2 / 2 (Wang et al. 2004, equation 13). With
    ``power``, both factors are clipped at 0, and their product is raised to it. If the mask contains only voxels at
    the borders, these are scored. Along an axis of fewer than 7 voxels the window is 1.

    Only the surroundings of the mask are filtered, in blocks, so that the extra memory stays small; threads share
    the blocks.
    """
    halves = [HALF_WINDOW if n >= _WINDOW else 0 for n in mask.shape]
    inner = np.zeros_like(mask)
    middle = tuple(slice(half, n - half) for half, n in zip(halves, mask.shape, strict=True))
    inner[middle] = mask[middle]
    if not inner.any():
        widths = [(half, half) for half in halves]
        first, second = (np.pad(array, widths, mode="symmetric") for array in (first, second))
        inner = np.pad(mask, widths)
    blocks = [block for block in _blocks(bounding_box(inner)) if inner[block].any()]
    sums = np.zeros(len(blocks))

    def add_up(numbers: range) -> None:
        buffers = np.empty((6, int(np.prod([n + 2 * half for n, half in zip(_BLOCK, halves, strict=True)]))))
        for n in numbers:
            means = _window_means(first, second, blocks[n], halves, inner[blocks[n]], buffers)
            sums[n] = _similarity(means, halves, constants, power).sum()

    # The sums of the blocks are added in order, so the result does not depend on which thread finishes first.
    each_in_threads(add_up, len(blocks))
    return float(sums.sum()) / int(np.count_nonzero(inner))


def each_in_threads(work: Callable[[range], None], count: int) -> None:
    """Call ``work`` in a few threads, each with some of the numbers below ``count``; numpy runs without the lock."""
    workers = max(1, min(_THREADS, usable_cpus(), count))
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, [range(first, count, workers) for first in range(workers)]))


def bounding_box(mask: Mask, *, margin: int = 0, multiple: int = 1) -> Box:
    """Return the mask's bounding box with a margin, its lower corner at multiples of ``multiple``."""
    slices = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(axis=tuple(n for n in range(3) if n != axis)))
        start = max(int(used[0]) - margin, 0) // multiple * multiple
        slices.append(slice(start, min(int(used[-1]) + 1 + margin, mask.shape[axis])))
    return slices[0], slices[1], slices[2]


def _similarity(means: list[Floats], halves: list[int], constants: tuple[float, float], power: float | None) -> Floats:
    mean_1, mean_2, mean_squares, mean_product = means
    (c1, c2), voxels = constants, float(np.prod([2 * half + 1 for half in halves]))
    unbiased = voxels / max(voxels - 1, 1)
    products = mean_1 * mean_2
    squares = mean_1 * mean_1
    squares += mean_2 * mean_2
    luminance = (2 * products + c1) / (squares + c1)
    others = (2 * unbiased * (mean_product - products) + c2) / (unbiased * (mean_squares - squares) + c2)
    if power is None:
        return luminance * others
    return (np.maximum(luminance, 0) * np.maximum(others, 0)) ** power


def _window_means(
    first: Array, second: Array, block: Box, halves: list[int], where: Mask, buffers: Floats
) -> list[Floats]:
    """Return the window's mean of a, b, a^2 + b^2 and a b at the voxels ``where`` of ``block``.

    ``buffers`` ``(6, ...)``, each as large as the block plus half a window on each side, are overwritten: allocating
    such memory for each block would take as long as the sums.
    """
    region = tuple(slice(s.start - half, s.stop + half) for s, half in zip(block, halves, strict=True))
    shape = tuple(s.stop - s.start for s in region)
    a, b, c, d = (_shaped(buffer, shape) for buffer in buffers[:4])
    a[...], b[...] = first[region], second[region]
    places = np.flatnonzero(where)

    def mean(values: Floats) -> Floats:
        total, free, other = values, buffers[4], buffers[5]
        for axis in range(3):
            if halves[axis]:
                total = _window_sums(total, axis, buffers[3], free)
                free, other = other, free
        return total.reshape(-1)[places] / float(np.prod([2 * half + 1 for half in halves]))

    squares = np.multiply(a, a, out=c)
    squares += np.multiply(b, b, out=d)
    mean_squares = mean(squares)
    return [mean(a), mean(b), mean_squares, mean(np.multiply(a, b, out=c))]


def _window_sums(values: Floats, axis: int, scratch: Floats, target: Floats) -> Floats:
    """Return the sums of seven neighbors along ``axis``, six fewer than there are values, in the memory ``target``.

    They are sums of 4 + 2 + 1 values: four additions instead of six, and exact where a running sum is not.
    """
    before, after, n = values.shape[:axis], values.shape[axis + 1 :], values.shape[axis]

    def part(array: Floats, start: int, end: int) -> Floats:
        return array[(slice(None),) * axis + (slice(start, end),)]

    pairs = np.add(part(values, 0, n - 1), part(values, 1, n), out=_shaped(scratch, (*before, n - 1, *after)))
    sums = _shaped(target, (*before, n - 6, *after))
    np.add(part(pairs, 0, n - 6), part(pairs, 2, n - 4), out=sums)
    sums += part(pairs, 4, n - 2)
    sums += part(values, 6, n)
    return sums


def _shaped(memory: Floats, shape: tuple[int, ...]) -> Floats:
    """Return the beginning of the one-dimensional ``memory`` as a contiguous array."""
    return memory[: int(np.prod(shape))].reshape(shape)


def _blocks(box: Box) -> Iterator[Box]:
    """Yield the blocks of a box, of at most ``_BLOCK`` voxels."""
    parts = [
        [slice(n, min(n + edge, s.stop)) for n in range(s.start, s.stop, edge)]
        for edge, s in zip(_BLOCK, box, strict=True)
    ]
    for i in parts[0]:
        for j in parts[1]:
            for k in parts[2]:
                yield i, j, k
