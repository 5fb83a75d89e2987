"""Flicker: how much more a translation changes from slice to slice than its input."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medcyclegan.errors import GeometryError

__all__ = ["flicker_index", "slice_roughness"]

#: Changes below this fraction of the largest value are rounding errors and count as 0.
_ROUNDING = 1e-5


def flicker_index(fake: NDArray[Any], source: NDArray[Any], mask: NDArray[np.bool_]) -> float:
    """Return how much more ``fake`` changes from slice to slice than ``source``, as a fraction.

    Arrays are (rows, columns, slices). The index is the :func:`slice_roughness` of ``fake`` divided by that of
    ``source``, minus 1: 0 if both change equally (as a true image of the other contrast does), 0.2 if the fake
    changes by a fifth more, as slices translated independently do, and negative if it is smoother. Resampling
    within the slices raises the roughness of any image, so ``source`` must have been resampled in the same way as
    ``fake``. This definition is our own. Raises :class:`~medcyclegan.errors.GeometryError` as
    :func:`slice_roughness` does, and for a ``source`` whose slices are all equal.
    """
    own = slice_roughness(source, mask)
    if not own:
        raise GeometryError(f"{source.shape[2]} equal slices: flicker needs an input that changes along them")
    return slice_roughness(fake, mask) / own - 1.0


def slice_roughness(array: NDArray[Any], mask: NDArray[np.bool_]) -> float:
    """Return the mean change between adjacent slices divided by that between adjacent pixels of a slice.

    ``array`` and ``mask`` are (rows, columns, slices); only voxel pairs inside ``mask`` count. The quotient does not
    depend on contrast and unit, so images of different contrasts can be compared. A mean change below 1e-5 of the
    largest magnitude inside ``mask`` counts as 0, so equal slices give exactly 0. Raises
    :class:`~medcyclegan.errors.GeometryError` for a single slice and for slices that are constant.
    """
    between, within = _Mean(), _Mean()
    largest = 0.0
    before: tuple[NDArray[Any], NDArray[np.bool_]] | None = None
    for index in range(array.shape[2]):
        plane, inside = array[:, :, index].astype(np.float32), mask[:, :, index]
        largest = max(largest, float(np.abs(plane).max(where=inside, initial=0.0)))
        within.add(np.diff(plane, axis=0), inside[1:] & inside[:-1])
        within.add(np.diff(plane, axis=1), inside[:, 1:] & inside[:, :-1])
        if before is not None:
            between.add(plane - before[0], inside & before[1])
        before = plane, inside
    least = _ROUNDING * largest
    if not between.count or not within.value > least:
        raise GeometryError(
            f"{array.shape[2]} slice{'s' if array.shape[2] != 1 else ''} without two adjacent ones with content: "
            "flicker needs a volume"
        )
    return between.value / within.value if between.value > least else 0.0


class _Mean:
    """The mean magnitude of the changes added so far."""

    def __init__(self) -> None:
        self._sum = 0.0
        self.count = 0

    def add(self, changes: NDArray[Any], where: NDArray[np.bool_]) -> None:
        self._sum += float(np.abs(changes).sum(where=where, dtype=np.float64))
        self.count += int(np.count_nonzero(where))

    @property
    def value(self) -> float:
        return self._sum / max(1, self.count)
