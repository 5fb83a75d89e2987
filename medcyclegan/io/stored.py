"""Choose the type in which a volume is written, and convert its values to it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medcyclegan.errors import WriteError
from medcyclegan.volume import Volume

__all__ = ["check_int16", "count_differing", "find_stored_type", "slabs", "to_stored"]

_INT16 = np.iinfo(np.int16)
#: Every whole number up to this one is a float32.
_EXACT_IN_FLOAT32 = 2**24
#: The number of slices that are converted, written and compared at a time, to limit the memory.
_SLAB = 16


def find_stored_type(volume: Volume) -> np.dtype[Any]:
    """Return int16 for a CT, float32 for everything else (float64 for whole numbers beyond 2^24), little-endian."""
    if volume.modality == "CT":
        return np.dtype("<i2")
    if np.issubdtype(volume.array.dtype, np.integer):
        largest = max(abs(int(volume.array.min())), abs(int(volume.array.max())))
        return np.dtype("<f4" if largest <= _EXACT_IN_FLOAT32 else "<f8")
    return np.dtype("<f4")


def slabs(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield views of an array ``(I, J, K)``, some slices at a time: ``(I, J, 16)`` and the rest."""
    for k in range(0, array.shape[2], _SLAB):
        yield array[..., k : k + _SLAB]


def to_stored(slab: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the slab in the type of :func:`find_stored_type`, rounded half to even for int16, first axis fastest.

    A slab that is stored as it is, is returned itself, not a copy.

    Raises :class:`~medcyclegan.errors.WriteError` for values that are not finite or do not fit.
    """
    lowest, highest = float(slab.min()), float(slab.max())
    if not (math.isfinite(lowest) and math.isfinite(highest)):  # NaN is passed on by both
        bad = slab.size - int(np.count_nonzero(np.isfinite(slab)))
        raise WriteError(
            f"{bad} voxels of the volume to write are not finite",
            remedy=("a file of them would be useless, replace them or find their cause"),
        )
    if dtype.kind == "i":
        check_int16(lowest, highest, remedy="if these are not HU, write the volume without its modality")
        return (np.rint(slab) if slab.dtype.kind == "f" else slab).astype(dtype, order="F", copy=False)
    largest = max(-lowest, highest)
    if largest > float(np.finfo(dtype).max):
        raise WriteError(
            f"a value of magnitude {largest:g}", remedy="float32 stores up to 3.4e+38, scale the volume down first"
        )
    return slab.astype(dtype, order="F", copy=False)


def check_int16(lowest: float, highest: float, *, remedy: str) -> None:
    """Raise WriteError if a CT with values from ``lowest`` to ``highest`` does not fit int16."""
    if np.rint(lowest) < _INT16.min or np.rint(highest) > _INT16.max:
        raise WriteError(
            f"a CT with values from {lowest:g} to {highest:g}: it is written as int16, {_INT16.min} to {_INT16.max} HU",
            remedy=remedy,
        )


def count_differing(stored: NDArray[Any], slab: NDArray[Any]) -> int:
    """Return how many stored values are not the slab's, to within the rounding of the stored type."""
    if stored.dtype.kind == "i" and slab.dtype.kind == "f":
        return int(np.count_nonzero(np.abs(stored - slab) > 0.5))
    return int(np.count_nonzero(stored != slab.astype(stored.dtype, copy=False)))
