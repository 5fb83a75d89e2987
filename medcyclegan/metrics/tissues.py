"""Tissues of a CT by Hounsfield units, and the error in each tissue."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medcyclegan.metrics.image_metrics import inside_parts

__all__ = ["TISSUES_HU", "mae_by_tissue"]

#: Tissue -> range of the reference in HU, lower end included; the limits common in reports on synthetic CT of the head.
TISSUES_HU = {"air": (-math.inf, -200.0), "soft_tissue": (-200.0, 200.0), "bone": (200.0, math.inf)}


def mae_by_tissue(fake: NDArray[Any], reference: NDArray[Any], mask: NDArray[np.bool_]) -> dict[str, float | None]:
    """Return the mean absolute error in HU where the reference shows air, soft tissue and bone.

    All arrays are ``(I, J, K)``. A tissue without voxels in the mask gets None.
    """
    totals, counts = dict.fromkeys(TISSUES_HU, 0.0), dict.fromkeys(TISSUES_HU, 0)
    for first, second in inside_parts(fake, reference, mask):
        error = np.abs(first - second)
        for tissue, (lower, upper) in TISSUES_HU.items():
            inside = error[(second >= lower) & (second < upper)]
            totals[tissue] += float(inside.sum())
            counts[tissue] += inside.size
    return {tissue: totals[tissue] / counts[tissue] if counts[tissue] else None for tissue in TISSUES_HU}
