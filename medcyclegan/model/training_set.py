"""A summary of a model's training set for ``model.json``: a few numbers per domain, no patient data."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from medcyclegan.manifest import PATIENT_SOURCES, SliceRow, Split
from medcyclegan.metrics import TissueMeans
from medcyclegan.model.hu_baseline import fit_tissue_means
from medcyclegan.slicing.measures import QUANTILES, acquisition, axial_spacing, histogram_of
from medcyclegan.volume import Volume

__all__ = [
    "TrainingSet",
    "describe_patients",
    "describe_training_set",
    "tissue_means_fields",
]

#: The numbers of volumes, and of slices of each, that are used; both evenly spaced.
_MOST_VOLUMES, _MOST_SLICES = 48, 16


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """A summary of the training volumes of one domain.

    ``volumes``: their number. ``histogram``: quantiles of the scaled foreground values, averaged over the volumes.
    ``histogram_spread``: the largest earth mover's distance of a volume's histogram from that mean.
    ``pixel_mm``, ``slice_mm``: the smallest and largest pixel size in the axial plane, and spacing of axial slices.
    ``acquisitions``: the number of volumes acquired in axial, coronal and sagittal planes.
    ``tissue_means``: for a domain in HU, the mean CT number of each tissue class of the other domain, a
    baseline for translations (:func:`~medcyclegan.model.hu_baseline.fit_tissue_means`); None if there is no baseline.
    """

    volumes: int
    histogram: tuple[float, ...]
    histogram_spread: float
    pixel_mm: tuple[float, float]
    slice_mm: tuple[float, float]
    acquisitions: Mapping[str, int]
    tissue_means: TissueMeans | None = None

    def histogram_distance(self, histogram: Sequence[float]) -> float:
        """Return the earth mover's distance of ``histogram`` from the training set's, in scaled units."""
        return float(np.abs(np.subtract(histogram, self.histogram)).mean())

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON types."""
        means = None if self.tissue_means is None else self.tissue_means.to_dict()
        return {**dataclasses.asdict(self), "tissue_means": means}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> TrainingSet:
        """Build it from :meth:`to_dict`'s result; raises KeyError, TypeError or ValueError for anything else."""
        means = fields["tissue_means"]
        histogram = tuple(float(v) for v in fields["histogram"])
        if len(histogram) != QUANTILES:
            raise ValueError(f"a histogram has {len(histogram)} quantiles, not {QUANTILES}")
        return cls(
            volumes=int(fields["volumes"]),
            histogram=histogram,
            histogram_spread=float(fields["histogram_spread"]),
            pixel_mm=(float(fields["pixel_mm"][0]), float(fields["pixel_mm"][1])),
            slice_mm=(float(fields["slice_mm"][0]), float(fields["slice_mm"][1])),
            acquisitions={str(k): int(v) for k, v in fields["acquisitions"].items()},
            tissue_means=None if means is None else TissueMeans.from_dict(means),
        )


def describe_training_set(rows: Sequence[SliceRow], store: Path, inputs: Sequence[SliceRow] = ()) -> dict[str, Any]:
    """Describe the training volumes ``rows`` of one domain of the slice store ``store``, for ``model.json``.

    ``inputs``: the rows of the other domain, which is translated into this one. Reads some slices of at most 48
    volumes, and for ``tissue_means`` at most 12 complete volumes per domain. Returns :meth:`TrainingSet.to_dict`.
    """
    seen = [rows[int((n + 0.5) * len(rows) / count)] for count in [min(len(rows), _MOST_VOLUMES)] for n in range(count)]
    histograms = np.array([_stack_histogram(store / row.file) for row in seen])
    mean = histograms.mean(axis=0)
    spread = float(np.abs(histograms - mean).mean(axis=1).max())
    grids = [Volume(np.broadcast_to(np.False_, row.shape), np.array(row.affine)) for row in rows]
    described = TrainingSet(
        volumes=len(rows),
        histogram=tuple(mean.round(4).tolist()),
        histogram_spread=round(spread, 4),
        pixel_mm=_range([mm for grid in grids for mm in axial_spacing(grid)[:2]]),
        slice_mm=_range([axial_spacing(grid)[2] for grid in grids]),
        acquisitions=dict(collections.Counter(acquisition(grid) for grid in grids)),
        tissue_means=fit_tissue_means(inputs, rows, store),
    )
    return described.to_dict()


def tissue_means_fields(provenance: Mapping[str, Any], target: str) -> Mapping[str, Any] | None:
    """Return the tissue means in a model's ``provenance`` for outputs in ``target``, or None.

    They are returned as stored; :meth:`~medcyclegan.metrics.TissueMeans.from_dict` checks them.
    """
    fields: Any = provenance
    for key in ("training_set", target, "tissue_means"):
        fields = fields.get(key) if isinstance(fields, Mapping) else None
    return fields if isinstance(fields, Mapping) else None


def describe_patients(rows: Sequence[SliceRow]) -> dict[str, Any]:
    """Count the patients of all volumes ``rows`` of one domain, including held-out ones, for ``model.json``.

    Returns ``splits``, the number of patients in each split, and ``sources``, the number of volumes whose patient was
    identified by each of :data:`~medcyclegan.manifest.PATIENT_SOURCES`. No name or hash is included.
    """
    splits = {split: len({row.patient for row in rows if row.split == split}) for split in get_args(Split)}
    sources = collections.Counter(row.patient_source for row in rows)
    return {"splits": splits, "sources": {source: sources[source] for source in PATIENT_SOURCES if sources[source]}}


def _stack_histogram(file: Path) -> tuple[float, ...]:
    stack = np.load(file, mmap_mode="r")
    step = max(1, len(stack) // _MOST_SLICES)
    histogram = histogram_of(np.asarray(stack[::step]))
    return histogram if histogram is not None else (-1.0,) * QUANTILES


def _range(values: Sequence[float]) -> tuple[float, float]:
    return round(min(values), 4), round(max(values), 4)
