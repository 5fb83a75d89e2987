"""Split conformal prediction over patients: quantiles of scores with a guarantee for a new patient.

The scores of a patient are the errors of its voxels divided by the expected error. Voxels of one patient are alike, so
patients, not voxels, are exchangeable. With K calibration patients that count equally, an interval that covers a share
``c (K + 1) / K`` of their voxels on average covers a share of at least ``c`` of the voxels of a new patient, in the
mean over patients (Lee, Barber and Willett 2023, arXiv 2306.06342; the same as conformal risk control, Angelopoulos et
al. 2022, arXiv 2208.02814, with the share of missed voxels as the risk). This holds for any translation and any
expected error, if the new patient is exchangeable with the calibration patients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "LEVELS",
    "corrected",
    "coverage_without_each",
    "fewest_patients",
    "mean_quantiles",
    "patient_quantiles",
    "ratio_interval",
    "share_below",
]

#: The levels at which the quantiles of scores are stored: every 0.005, and finer where few voxels are left.
LEVELS: NDArray[np.float64] = np.concatenate([np.arange(0, 0.98, 0.005), 1 - np.geomspace(0.02, 0.0005, 40)])


def fewest_patients(coverage: float) -> int:
    """Return the number of patients from which an interval of this coverage is finite: ``c (K + 1) / K < 1``."""
    return math.floor(coverage / (1 - coverage) + 1e-9) + 1


def corrected(coverage: float, patients: int) -> float:
    """Return the share of calibration voxels to cover, so that a new patient is covered by ``coverage``."""
    return coverage * (patients + 1) / patients


def patient_quantiles(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a patient's quantiles at :data:`LEVELS`, which stand for the distribution of its scores."""
    return np.quantile(scores, LEVELS).astype(np.float32)


def mean_quantiles(each: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the quantiles at :data:`LEVELS` of the mean of the distributions of patients ``(K, levels)``."""
    values = np.unique(each)
    shares = np.mean([share_below(own, values) for own in each], axis=0)
    # Between equal shares, the smallest value counts.
    shares, first = np.unique(shares, return_index=True)
    return np.interp(LEVELS, shares, values[first]).astype(np.float32)


def share_below(quantiles: NDArray[np.float32], values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the share of a patient's scores up to each of ``values``."""
    return np.interp(values, quantiles, LEVELS, left=0.0, right=1.0)


def coverage_without_each(each: NDArray[np.float32], coverages: Sequence[float]) -> NDArray[np.float64]:
    """Return the coverage of each patient by intervals from all others, ``(coverages, K)``; NaN if they are too few."""
    found = np.full((len(coverages), len(each)), np.nan)
    for number, own in enumerate(each):
        others = np.delete(each, number, axis=0)
        if not len(others):
            continue
        quantiles = mean_quantiles(others)
        for row, coverage in enumerate(coverages):
            level = corrected(coverage, len(others))
            if level <= LEVELS[-1]:
                found[row, number] = share_below(own, np.array([np.interp(level, LEVELS, quantiles)]))[0]
    return found


def ratio_interval(ratios: Sequence[float], coverage: float) -> tuple[float, float] | None:
    """Return the interval that contains the ratio of a new patient with probability ``coverage``.

    ``ratios``: those of K calibration patients. None if they are too few for the ranks of the interval.
    """
    ordered, count = sorted(ratios), len(ratios)
    tail = (1 - coverage) / 2
    low = math.floor(tail * (count + 1) + 1e-9)
    if low < 1:
        return None
    return float(ordered[low - 1]), float(ordered[count - low])
