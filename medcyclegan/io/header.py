"""What the header of a volume file states, before any voxel is read."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["VolumeHeader"]


@dataclasses.dataclass(frozen=True, eq=False)
class VolumeHeader:
    """The header of one file: ``shape`` with all axes, ``affine`` to RAS+ mm, ``dtype`` as stored.

    ``why_synthetic`` names what marks the values as synthetic; empty if nothing does.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    affine: NDArray[np.float64]
    modality: str | None = None
    why_synthetic: str = ""
    notes: tuple[str, ...] = ()

    @property
    def volumes(self) -> int:
        """The number of volumes along the fourth axis."""
        return self.shape[3] if len(self.shape) > 3 else 1
