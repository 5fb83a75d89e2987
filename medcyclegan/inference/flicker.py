"""Measure the flicker of a translation, compared with its input after the same resampling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medcyclegan.errors import GeometryError
from medcyclegan.inference.planes import PLANES, plan_canvas
from medcyclegan.inference.translate import Translation
from medcyclegan.intensity import AIR
from medcyclegan.metrics import flicker_index
from medcyclegan.plane import CORONAL, plane_view
from medcyclegan.volume import Volume

__all__ = ["measure_flicker", "resampled_input"]

#: Approximate number of rows and columns that are used: every pixel of a small slice, every fourth of 512.
_PIXELS = 128
#: Slices that are resampled at a time.
_CHUNK = 8


def measure_flicker(volume: Volume, done: Translation, planes: str) -> float | None:
    """Return the :func:`~medcyclegan.metrics.flicker_index` of the translation ``done`` of ``volume``.

    ``planes``: ``"axial"`` or ``"three"``, the planes of the translation. None if it cannot be measured: for
    a single slice, or for slices that are all equal or constant.
    """
    fake = plane_view(done.volume.array, done.volume.orientation)
    step = max(1, round(min(fake.shape[:2]) / _PIXELS))
    source = resampled_input(volume, done, PLANES[planes], step)
    try:
        return flicker_index(fake[::step, ::step], source, source > AIR)
    except GeometryError:
        return None


def resampled_input(volume: Volume, done: Translation, planes: Sequence[str], step: int = 1) -> NDArray[np.float32]:
    """Return the input as an identity generator would: scaled, resampled to the model's pixels and back.

    The result has (rows, columns, slices) of the axial plane in [-1, 1], with every ``step``-th row and column. For
    three ``planes`` it is the median of three, as in the translation.
    """
    view = plane_view(volume.array, volume.orientation)
    rows, columns = (matrix[::step].numpy() for matrix in plan_canvas(volume, done.direction.model).round_trip())
    result = np.empty((len(rows), len(columns), view.shape[2]), np.float32)
    # A coronal slice's rows run along the patient, so its first matrix resamples across axial slices.
    across = plan_canvas(volume, done.direction.model, CORONAL).round_trip()[0].numpy() if len(planes) > 1 else None
    for first in range(0, view.shape[2], _CHUNK):
        part = slice(first, min(first + _CHUNK, view.shape[2]))
        slices = done.scaling.normalize(view[:, :, part].transpose(2, 0, 1))
        resampled = rows @ slices @ columns.T
        if across is not None:
            needed = np.flatnonzero(across[part].any(axis=0))
            near = done.scaling.normalize(view[:, :, needed[0] : needed[-1] + 1].transpose(2, 0, 1))
            turned = np.tensordot(across[part, needed[0] : needed[-1] + 1], near, axes=1)
            others = (turned[:, ::step] @ columns.T, rows @ turned[:, :, ::step])
            resampled = np.median([resampled, *others], axis=0)
        result[:, :, part] = resampled.transpose(1, 2, 0)
    return result
