"""Find volumes that are (nearly) the same image, from a short description of each.

A description contains the means of 8 x 8 x 8 parts of the volume, scaled to its range, and the direction in which the
values change at the same number of points. Images are alike if both agree: copies with another data type, scale,
orientation, compression or header, and slightly smoothed, resampled or noisy copies. Two scans of one object are not
alike, since their noise differs. ``tests/benchmarks/likeness.py`` prints the distances of real scans and of changed
copies.
"""

from __future__ import annotations

import base64
import collections
import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medcyclegan.plane import plane_view
from medcyclegan.volume import Volume

__all__ = ["compare", "describe_likeness", "find_alike"]

#: Number of parts along each axis of a volume, and in total for a volume with few slices.
_PARTS, _ALL_PARTS = 8, 512
#: Largest number of voxels along an axis over which the mean of a part is computed.
_SAMPLES = 16
#: Largest difference of like images: the sum over all parts, scaled to 0 to 1, divided by the number of parts that show
#: the object.
_LARGEST_DIFFERENCE = 0.03
#: Smallest correlation of the directions of change. Independent noise on one object gives up to 0.15.
_LEAST_AGREEMENT = 0.25
#: Parts above this fraction of the range show the object; if their fraction is below the second value, there is nothing
#: to compare.
_OBJECT, _FEWEST_PARTS = 0.1, 0.05
#: Number of means that represent a description in the search for similar ones.
_COORDINATES = 16
#: Number of descriptions, or pairs of them, that are compared at once.
_BLOCK = 512


@dataclasses.dataclass(frozen=True)
class _Likeness:
    grid: str
    parts: NDArray[np.uint8]
    changes: NDArray[np.int8]


def describe_likeness(volume: Volume) -> str:
    """Return the description of a finite volume as text; empty if it shows too little for a comparison."""
    view = plane_view(volume.array, volume.orientation)
    counts = _grid(view.shape)
    means = _means(view, counts).ravel()
    low, high = np.percentile(means, (2.0, 98.0))
    if not high > low:
        return ""
    scaled = np.clip((means - low) / (high - low), 0.0, 1.0)
    if np.mean(scaled > _OBJECT) < _FEWEST_PARTS:
        return ""
    parts = np.rint(255 * scaled).astype(np.uint8)
    packed = np.packbits(np.unpackbits((_changes(view, counts) + 1).astype(np.uint8)[:, None], axis=1)[:, 6:])
    text = base64.b64encode(parts.tobytes() + packed.tobytes()).decode("ascii")
    return f"{'x'.join(map(str, counts))}:{text}"


def find_alike(descriptions: Sequence[str]) -> list[tuple[int, int]]:
    """Return pairs of indices of descriptions that are alike; connected pairs form a group."""
    places: dict[str, int] = {}
    pairs = []
    for place, text in enumerate(descriptions):
        if text:
            first = places.setdefault(text, place)
            if first != place:
                pairs.append((first, place))
    by_grid: dict[str, list[tuple[int, _Likeness]]] = collections.defaultdict(list)
    for text, place in places.items():
        likeness = _parse(text)
        if likeness is not None:
            by_grid[likeness.grid].append((place, likeness))
    for found in by_grid.values():
        near = _near_pairs(np.array([own.parts for _, own in found]), np.array([own.changes for _, own in found]))
        pairs += [(found[one][0], found[other][0]) for one, other in near]
    return sorted((min(pair), max(pair)) for pair in pairs)


def compare(one: str, other: str) -> tuple[float, float]:
    """Return the difference (0 to 1, infinite if grids differ) and the agreement (-1 to 1) of two descriptions."""
    a, b = _parse(one), _parse(other)
    if a is None or b is None or a.grid != b.grid:
        return math.inf, 0.0
    parts, changes, pair = np.stack([a.parts, b.parts]), np.stack([a.changes, b.changes]), np.array([[0, 1]])
    difference, agreement = _compare(parts, changes, pair)
    shown = np.count_nonzero(parts > 255 * _OBJECT, axis=1).max()
    return float(difference[0] / (255 * max(1, shown))), float(agreement[0])


def _near_pairs(parts: NDArray[np.uint8], changes: NDArray[np.int8]) -> Iterator[tuple[int, int]]:
    """Yield pairs of rows that are alike.

    The difference of two rows is at least that of their sums over groups of parts, so only few pairs have to be
    compared part by part.
    """
    from scipy.spatial.distance import cdist  # a large import, and most callers of this package never compare images

    allowed = 255 * _LARGEST_DIFFERENCE * np.count_nonzero(parts > 255 * _OBJECT, axis=1)
    groups = np.array_split(np.arange(parts.shape[1]), min(_COORDINATES, parts.shape[1]))
    sums = np.stack([parts[:, group].sum(axis=1, dtype=np.float64) for group in groups], axis=1)
    order = np.argsort(sums.sum(axis=1), kind="stable")
    totals = sums.sum(axis=1)[order]
    for start in range(0, len(order), _BLOCK):
        own = order[start : start + _BLOCK]
        end = int(np.searchsorted(totals, totals[start + len(own) - 1] + allowed.max(), side="right"))
        beside = order[start:end]
        distances = cdist(sums[own], sums[beside], "cityblock")
        ones, others = np.nonzero(distances <= np.maximum(allowed[own][:, None], allowed[beside]))
        pairs = np.stack([own[ones], beside[others]], axis=1)[others > ones]
        for first in range(0, len(pairs), _BLOCK):
            compared = pairs[first : first + _BLOCK]
            difference, agreement = _compare(parts, changes, compared)
            near = difference <= np.maximum(allowed[compared[:, 0]], allowed[compared[:, 1]])
            yield from map(tuple, compared[near & (agreement >= _LEAST_AGREEMENT)].tolist())


def _compare(
    parts: NDArray[np.uint8], changes: NDArray[np.int8], pairs: NDArray[np.intp]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the summed difference of the parts of each pair of rows, and the correlation of the directions of change.

    If nothing changes in either row, as without noise, the directions agree.
    """
    one, other = pairs[:, 0], pairs[:, 1]
    difference = np.abs(parts[one].astype(np.int16) - parts[other]).sum(axis=1)
    same = np.einsum("np,np->n", changes[one], changes[other], dtype=np.int32)
    counts = [np.count_nonzero(changes[rows], axis=1) for rows in (one, other)]
    agreement = np.where(counts[0] + counts[1] == 0, 1.0, same / np.sqrt(np.maximum(1, counts[0] * counts[1])))
    return difference, agreement


def _grid(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the number of parts along rows, columns and slices; with few slices there are more parts in the plane."""
    slices = min(shape[2], _PARTS)
    in_plane = math.isqrt(_ALL_PARTS // slices)
    return min(shape[0], in_plane), min(shape[1], in_plane), slices


def _means(view: NDArray[Any], counts: tuple[int, int, int]) -> NDArray[np.float64]:
    steps = [max(1, n // (_SAMPLES * count)) for n, count in zip(view.shape, counts, strict=True)]
    means: NDArray[np.float64] = view[tuple(slice(None, None, step) for step in steps)].astype(np.float64)
    for axis, count in enumerate(counts):
        starts = np.arange(count) * means.shape[axis] // count
        lengths = np.diff(np.append(starts, means.shape[axis]))
        means = np.add.reduceat(means, starts, axis=axis) / np.expand_dims(lengths, tuple({0, 1, 2} - {axis}))
    return means


def _changes(view: NDArray[Any], counts: tuple[int, int, int]) -> NDArray[np.int8]:
    """Return the signs of the differences to the next row and column, at the center of each part."""
    middles = [(2 * np.arange(count) + 1) * n // (2 * count) for n, count in zip(view.shape, counts, strict=True)]
    here = view[np.ix_(*middles)].astype(np.float64)
    signs = []
    for axis in (0, 1):
        beside = list(middles)
        beside[axis] = np.minimum(middles[axis] + 1, view.shape[axis] - 1)
        signs.append(np.sign(view[np.ix_(*beside)].astype(np.float64) - here).ravel())
    return np.concatenate(signs).astype(np.int8)


def _parse(text: str) -> _Likeness | None:
    """Parse a description of :func:`describe_likeness`; return None for anything else."""
    grid, _, encoded = text.partition(":")
    try:
        size = math.prod(int(count) for count in grid.split("x"))
        data = np.frombuffer(base64.b64decode(encoded, validate=True), dtype=np.uint8)
    except ValueError:
        return None
    if data.size != size + -(-4 * size // 8):
        return None
    bits = np.unpackbits(data[size:])[: 4 * size].reshape(-1, 2)
    return _Likeness(grid, data[:size], (2 * bits[:, 0] + bits[:, 1]).astype(np.int8) - np.int8(1))
