"""Flicker: how much a translation changes from slice to slice beyond what its input does."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medcyclegan.errors import GeometryError

__all__ = ["flicker_index", "slice_roughness"]


def flicker_index(fake: NDArray[Any], source: NDArray[Any], mask: NDArray[np.bool_]) -> float:
    """Return by how much ``fake`` changes more than ``source`` from slice to slice, as a share.

    Arrays are (rows, columns, slices). The :func:`slice_roughness` of ``fake`` over that of ``source``,
    less 1: 0 where both change alike (as a true image of the other contrast does), 0.2 where the fake
    changes by a fifth more, as slices translated each for itself do; negative where it is smoother.
    The definition is ours. Raises as :func:`slice_roughness` does.
    """
    return slice_roughness(fake, mask) / slice_roughness(source, mask) - 1.0


def slice_roughness(array: NDArray[Any], mask: NDArray[np.bool_]) -> float:
    """Return the mean change between neighbouring slices over that between neighbouring pixels in a slice.

    ``array`` and ``mask`` are (rows, columns, slices); voxel pairs inside ``mask`` count. The quotient
    leaves out contrast and unit, so that images of different contrasts can be compared. Raises
    :class:`~medcyclegan.errors.GeometryError` for a single slice, or one without any change in it.
    """
    between, within = _Mean(), _Mean()
    before: tuple[NDArray[Any], NDArray[np.bool_]] | None = None
    for index in range(array.shape[2]):
        plane, inside = array[:, :, index].astype(np.float32), mask[:, :, index]
        within.add(np.diff(plane, axis=0), inside[1:] & inside[:-1])
        within.add(np.diff(plane, axis=1), inside[:, 1:] & inside[:, :-1])
        if before is not None:
            between.add(plane - before[0], inside & before[1])
        before = plane, inside
    if not between.count or not within.value:
        raise GeometryError(
            f"{array.shape[2]} slice{'s' if array.shape[2] != 1 else ''} without two neighbours that show something: "
            "flicker needs a volume"
        )
    return between.value / within.value


class _Mean:
    """The mean magnitude of what was added so far."""

    def __init__(self) -> None:
        self._sum = 0.0
        self.count = 0

    def add(self, changes: NDArray[Any], where: NDArray[np.bool_]) -> None:
        self._sum += float(np.abs(changes).sum(where=where, dtype=np.float64))
        self.count += int(np.count_nonzero(where))

    @property
    def value(self) -> float:
        return self._sum / max(1, self.count)
