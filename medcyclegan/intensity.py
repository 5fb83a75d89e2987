"""Intensity scaling: from stored values to [-1, 1] and back, with the rule and its numbers as a value.

CT: a fixed window in Hounsfield units. MR, which has no unit: percentiles of the foreground of each volume.
2-D pictures: the range of their bit depth.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medcyclegan.errors import IntensityError

__all__ = [
    "AIR",
    "CT_WINDOW_HU",
    "PADDING_HU",
    "SCALED_PADDING",
    "IntensityScaling",
    "check_hu",
    "even_sample",
    "foreground_mask",
    "foreground_threshold",
    "looks_like_hu",
]

#: Scaled values up to this one count as air or padding, larger values as the patient. In the default CT window it is
#: -922 HU, above air and its noise.
AIR = -0.95
#: Scaled values up to this one, just above -1, are padding or clipped air. No threshold of the foreground is lower.
SCALED_PADDING = -0.99

#: Below this a CT voxel is scanner padding (outside the reconstructed circle), not a measurement.
PADDING_HU = -1024.0

#: The values of 12 bits with the intercept that most scanners use: the default window of a CT.
CT_WINDOW_HU = (PADDING_HU, 3071.0)

#: CT: the body is denser than this; air and lung are not.
_BODY_HU = -500.0

#: A volume is in HU if this percentile of its measurements is air and this share of them is in the range of soft
#: tissue.
_AIR_PERCENTILE, _LARGEST_AIR_HU = 0.05, -800.0
_TISSUE_HU, _LEAST_TISSUE = (-250.0, 350.0), 0.001

#: Computation is in float32, whose largest number is 3.4e38.
_LARGEST = 1e30
#: Statistics of a volume are computed from about this many evenly spaced voxels.
_SAMPLE = 2_000_000
#: Number of voxels that are counted at a time.
_PART = 1 << 20

Kind = Literal["window", "percentile", "range"]


@dataclasses.dataclass(frozen=True)
class IntensityScaling:
    """The linear map of [``lower``, ``upper``] in ``unit`` to [-1, 1]; values beyond are clipped.

    ``kind`` is the source of the numbers: ``"window"`` (CT, HU), ``"percentile"`` (MR, of the foreground of one
    volume, or their median over a training set), ``"range"`` (pictures, bit depth). ``air``: the median of the
    background around the patient, if there is any; measured only for ``"percentile"``, for which ``lower`` is the
    value of dark tissue.
    """

    kind: Kind
    lower: float
    upper: float
    unit: str
    air: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lower) and math.isfinite(self.upper) and self.lower < self.upper):
            raise IntensityError(
                f"an intensity range from {self.lower:g} to {self.upper:g} {self.unit}: it must ascend; "
                "a constant or empty image has no contrast to translate"
            )
        if self.air is not None and not math.isfinite(self.air):
            raise IntensityError(f"an air value of {self.air:g} {self.unit}: it must be finite")
        if max(abs(self.lower), abs(self.upper)) > _LARGEST:
            raise IntensityError(
                f"an intensity range from {self.lower:g} to {self.upper:g} {self.unit}: numbers beyond {_LARGEST:g} "
                "cannot be computed with; rescale the image"
            )

    @classmethod
    def fit(
        cls,
        array: NDArray[Any],
        *,
        modality: str | None,
        value_range: tuple[float, float] | None = None,
        window_hu: tuple[float, float] = CT_WINDOW_HU,
        percentiles: tuple[float, float] = (0.5, 99.5),
    ) -> IntensityScaling:
        """Choose the rule by modality and compute its numbers from ``array`` ``(I, J, K)``.

        CT: ``window_hu``, after :func:`check_hu`. A 2-D picture (``value_range`` given): that range.
        All others: ``percentiles`` of the foreground. Raises
        :class:`~medcyclegan.errors.IntensityError` for a CT that is not in HU and for an image
        without contrast.
        """
        if modality == "CT":
            check_hu(array)
            return cls("window", float(window_hu[0]), float(window_hu[1]), "HU")
        if value_range is not None:
            return cls("range", float(value_range[0]), float(value_range[1]), "grey level")
        sample = _sample(array)
        mask = foreground_mask(sample, foreground_threshold(sample, modality))
        values, around = sample[mask], sample[~mask]
        if values.size == 0:
            raise IntensityError("a constant image has no foreground and no contrast to translate: leave it out")
        lower, upper = np.percentile(values, percentiles)
        air = float(np.median(around)) if around.size else None
        return cls("percentile", float(lower), float(upper), "arbitrary units", air)

    @property
    def background(self) -> float:
        """The value of air: as measured; else 0 for an MR whose tissue is positive, and ``lower`` otherwise."""
        if self.air is not None:
            return self.air
        return min(self.lower, 0.0) if self.kind == "percentile" else self.lower

    def normalize(self, array: NDArray[Any]) -> NDArray[np.float32]:
        """Map stored values to float32 in [-1, 1]; CT padding (below -1024 HU) counts as -1024 HU."""
        scaled = np.subtract(array, np.float32(self.lower), dtype=np.float32)
        scaled *= np.float32(2.0 / (self.upper - self.lower))
        scaled -= np.float32(1.0)
        return np.clip(scaled, -1.0, 1.0, out=scaled)

    def denormalize(self, array: NDArray[Any]) -> NDArray[np.float32]:
        """Map [-1, 1] back to values in ``unit``, float32: the exact inverse inside the range."""
        values = np.add(array, np.float32(1.0), dtype=np.float32)
        values *= np.float32((self.upper - self.lower) / 2.0)
        values += np.float32(self.lower)
        return np.clip(values, np.float32(self.lower), np.float32(self.upper), out=values)

    def count_clipped(self, array: NDArray[Any]) -> int:
        """Count the measurements that :meth:`normalize` clips.

        These are the values above the range and, in CT, below it, without scanner padding. Values below the range
        of an MR are background, whose clipping is not a loss.
        """
        flat = np.ravel(array, order="K")
        # In parts, because a mask of the whole volume would take a quarter of its memory.
        return sum(self._count_clipped(flat[first : first + _PART]) for first in range(0, flat.size, _PART))

    def _count_clipped(self, values: NDArray[Any]) -> int:
        above = int(np.count_nonzero(values > self.upper))
        if self.unit != "HU":
            return above
        return above + int(np.count_nonzero((values < self.lower) & (values >= PADDING_HU)))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> IntensityScaling:
        """Create a scaling from the result of :meth:`to_dict`; raises IntensityError for anything else."""
        try:
            kind, unit = fields["kind"], fields["unit"]
            lower, upper = float(fields["lower"]), float(fields["upper"])
            air = None if fields["air"] is None else float(fields["air"])
        except (KeyError, TypeError, ValueError) as error:
            raise IntensityError(f"an intensity scaling needs kind, lower, upper, unit and air: {error!r}") from None
        if kind not in ("window", "percentile", "range"):
            raise IntensityError(f"an intensity scaling of kind {kind!r}: known are window, percentile and range")
        if not isinstance(unit, str) or not unit.isprintable() or len(unit) > 64:
            raise IntensityError(f"an intensity unit {str(unit)[:80]!r}: it is a short printable text")
        return cls(kind, lower, upper, unit, air)


def check_hu(array: NDArray[Any]) -> None:
    """Refuse a CT that is not in Hounsfield units (air -1000, water 0).

    Without scanner padding (below -1024), the 0.05th percentile must be at most -800, as only air and lung are, and at
    least 0.1 % of the voxels must be between -250 and 350, the range of soft tissue. Raises
    :class:`~medcyclegan.errors.IntensityError`, naming the lowest values found.
    """
    values = _sample(array)
    values = values[values >= PADDING_HU]
    darkest = float(np.percentile(values, _AIR_PERCENTILE)) if values.size else math.nan
    if not darkest <= _LARGEST_AIR_HU:
        raise IntensityError(
            f"a CT whose darkest voxels are at {darkest:.4g}, where air is near -1000 HU: not in HU; "
            "restore the rescale slope and intercept, or treat it as arbitrary units in a domain of "
            "another name with domains.NAME.modality=MR"
        )
    low, high = _TISSUE_HU
    if np.mean((values > low) & (values < high)) < _LEAST_TISSUE:
        raise IntensityError(
            f"a CT without voxels between {low:.0f} and {high:.0f} HU, the range of soft tissue: not in HU, "
            "perhaps saved in 8 bits; export the original images, or restore the rescale slope and intercept"
        )


def looks_like_hu(array: NDArray[Any]) -> bool:
    """Return whether a volume seems to be a CT in Hounsfield units, by the rule of :func:`check_hu`."""
    sample = _sample(array)
    if sample.size == 0 or sample.min() > _LARGEST_AIR_HU:
        return False
    try:
        check_hu(array)
    except IntensityError:
        return False
    return True


def foreground_threshold(array: NDArray[Any], modality: str | None) -> float:
    """Return the value above which a voxel shows the patient rather than air.

    CT: -500 HU. Otherwise half of Otsu's threshold (Otsu 1979, IEEE TSMC 9:62), since dark tissue is below
    Otsu's threshold.
    """
    if modality == "CT":
        return _BODY_HU
    sample = _sample(array).astype(np.float64, copy=False)
    low, high = np.percentile(sample, (0.1, 99.9))
    if not low < high:
        return float(sample.min())
    counts, edges = np.histogram(sample, bins=256, range=(low, high))
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)[:-1].astype(np.float64)
    sums = np.cumsum(counts * centres)
    above = counts.sum() - below
    with np.errstate(divide="ignore", invalid="ignore"):
        separation = below * above * (sums[:-1] / below - (sums[-1] - sums[:-1]) / above) ** 2
    if np.isnan(separation).all():  # all values between the percentiles are equal: brighter voxels are the patient
        return float(low)
    otsu = float(centres[int(np.nanargmax(separation))])
    return float(low) + (otsu - float(low)) / 2


def foreground_mask(array: NDArray[Any], threshold: float) -> NDArray[np.bool_]:
    """Return where ``array`` ``(I, J, K)`` exceeds ``threshold``, with enclosed holes filled."""
    from scipy import ndimage

    filled: NDArray[np.bool_] = ndimage.binary_fill_holes(array > threshold)
    return filled


def even_sample(shape: Sequence[int], voxels: int = _SAMPLE) -> tuple[slice, ...]:
    """Return the index of an evenly strided view of about ``voxels`` voxels of an array ``(I, J, K)``.

    An axis of fewer than four strides is kept whole.
    """
    stride = max(1, round((math.prod(shape) / voxels) ** (1 / 3)))
    return tuple(slice(None, None, stride if n >= 4 * stride else 1) for n in shape)


def _sample(array: NDArray[Any]) -> NDArray[Any]:
    return array[even_sample(array.shape)]
