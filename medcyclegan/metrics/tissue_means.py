"""Mean CT number of each tissue class of an input: the baseline that a translation to HU must beat.

A tissue class is a range of brightness of the input. The means come from a training set, so this is a translation
without a network: it uses the brightness of the input but not its shape.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medcyclegan.intensity import IntensityScaling
from medcyclegan.metrics.tissues import TISSUES_HU

__all__ = ["InputToHu", "TissueMeans", "means_of_pairs", "means_of_shares"]

#: Largest number of tissue classes, if their means come from pairs.
_CLASSES = 32
#: CT numbers beyond these, the limits of 16 bits, are not valid means.
_HU_LIMITS = (-32768.0, 32767.0)

Values = Sequence[NDArray[Any]]


@dataclasses.dataclass(frozen=True)
class TissueMeans:
    """Mean CT numbers as a function of the brightness of the input, in the scaled range [-1, 1].

    ``levels``: the boundaries of the classes, ascending; a class begins at its boundary. ``hu``: the mean of each
    class, one more than ``levels``. ``fitted_on``: ``"pairs"`` (training patients with both images on one grid)
    or ``"shares"`` (see :func:`means_of_shares`). ``patients``: the training patients whose CT was used.

    Raises ValueError for numbers that a fit cannot return.
    """

    levels: tuple[float, ...]
    hu: tuple[float, ...]
    fitted_on: Literal["pairs", "shares"]
    patients: int

    def __post_init__(self) -> None:
        if len(self.hu) != len(self.levels) + 1 or len(self.hu) > _CLASSES:
            raise ValueError(f"{len(self.hu)} means for {len(self.levels)} boundaries, with at most {_CLASSES} classes")
        if not all(math.isfinite(v) for v in (*self.levels, *self.hu)) or list(self.levels) != sorted(self.levels):
            raise ValueError("boundaries and means must be finite numbers, and the boundaries must ascend")
        if not all(_HU_LIMITS[0] <= v <= _HU_LIMITS[1] for v in self.hu):
            raise ValueError(f"means must lie within {_HU_LIMITS[0]:g} and {_HU_LIMITS[1]:g} HU")
        if self.fitted_on not in ("pairs", "shares") or self.patients < 1:
            raise ValueError(f"means fitted on {str(self.fitted_on)[:40]!r} of {self.patients} patients")

    def to_hu(self, scaled: NDArray[Any]) -> NDArray[np.float32]:
        """Return the mean CT number of each voxel's class, in HU; ``scaled`` is in [-1, 1], of any shape."""
        classes = np.searchsorted(np.array(self.levels), scaled, side="right")
        means: NDArray[np.float32] = np.array(self.hu, dtype=np.float32)[classes]
        return means

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON types."""
        return {**dataclasses.asdict(self), "levels": list(self.levels), "hu": list(self.hu)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> TissueMeans:
        """Build it from :meth:`to_dict`'s result; raises KeyError, TypeError or ValueError for anything else."""
        levels, hu = (tuple(float(v) for v in fields[name]) for name in ("levels", "hu"))
        return cls(levels, hu, fields["fitted_on"], int(fields["patients"]))


@dataclasses.dataclass(frozen=True)
class InputToHu:
    """Tissue means of a training set, and the scaling of the input to which they are applied."""

    means: TissueMeans
    scaling: IntensityScaling

    def __call__(self, array: NDArray[Any]) -> NDArray[np.float32]:
        """Return the mean CT number in HU for each voxel of an unscaled input."""
        return self.means.to_hu(self.scaling.normalize(array))


def means_of_pairs(scaled: Values, hu: Values, patients: int) -> TissueMeans:
    """Return the mean CT number of up to 32 classes of equal size, from pairs of images.

    ``scaled`` and ``hu``: for each pair the values of both images inside the head, voxel by voxel. Of all functions
    that are constant on these classes, the result has the smallest squared error on these pairs.
    """
    inputs, truths = np.concatenate(list(scaled)).astype(np.float64), np.concatenate(list(hu)).astype(np.float64)
    # Boundaries are input values above the smallest one, so that no class is empty.
    quantiles = np.unique(np.quantile(inputs, np.arange(1, _CLASSES) / _CLASSES, method="higher"))
    levels = quantiles[quantiles > inputs.min()]
    classes = np.searchsorted(levels, inputs, side="right")
    counts = np.bincount(classes, minlength=len(levels) + 1)
    means = np.bincount(classes, weights=truths, minlength=len(levels) + 1) / counts
    return TissueMeans(tuple(levels.tolist()), tuple(means.round(1).tolist()), "pairs", patients)


def means_of_shares(scaled: Values, hu: Values, patients: int) -> TissueMeans:
    """Return the mean CT numbers of two classes, dark and bright, from images of different patients.

    ``scaled`` and ``hu``: the values inside the head of each image of the input's domain, and of each CT. Air and bone
    give no signal in MR, so the dark class gets the same share of the input as air and bone have in the CTs.
    Its mean is that of air and bone in the CTs; the mean of the bright class is that of their soft tissue
    (:data:`~medcyclegan.metrics.TISSUES_HU`).
    """
    inputs, truths = np.concatenate(list(scaled)), np.concatenate(list(hu)).astype(np.float64)
    lower, upper = TISSUES_HU["soft_tissue"]
    soft = (truths >= lower) & (truths < upper)
    if soft.all() or not soft.any():
        return TissueMeans((), (round(float(truths.mean()), 1),), "shares", patients)
    # If more than that share has the smallest value, all of these voxels are dark.
    boundary = max(np.quantile(inputs, 1 - soft.mean()), np.nextafter(inputs.min(), np.inf, dtype=inputs.dtype))
    means = tuple(round(float(truths[where].mean()), 1) for where in (~soft, soft))
    return TissueMeans((float(boundary),), means, "shares", patients)
