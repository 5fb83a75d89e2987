"""The check before training: what a slice store contains, and which of its volumes differ from the others.

**Rule for outliers.** The volumes of a domain are compared with the medians of the domain. A volume is an outlier if

- the quantiles of its foreground differ on average by more than 0.45 of the range between the domain's 10th and 90th
  percentile,
- its noise is more than 3 times the median (and more than 24 HU in CT, 0.03 of the scaled range of -1 to 1 otherwise),
- the largest area of its foreground differs by a factor of more than 1.5, or
- its height differs by a factor of more than 2,

and if the difference is also larger than 4 standard deviations of the domain, estimated from the median absolute
deviation: a domain that is varied throughout has no outliers. Domains of fewer than 5 volumes and sets of pictures are
not checked. ``tests/benchmarks/outliers.py`` prints the measures of real scans, of synthetic CTs and of changed copies.
"""

from __future__ import annotations

import collections
import dataclasses
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medcyclegan.errors import StoreError
from medcyclegan.intensity import IntensityScaling
from medcyclegan.manifest import PATIENT_SOURCES, SliceRow, Split
from medcyclegan.progress import progress_bar
from medcyclegan.slicing.key_file import Names, load_names
from medcyclegan.slicing.measures import Measures, acquisition, axial_extent, axial_spacing, measure_stack
from medcyclegan.slicing.sheets import label_of, sort_key
from medcyclegan.slicing.split import describe_patients, describe_splits
from medcyclegan.volume import Volume

__all__ = ["FEWEST_FOR_OUTLIERS", "Outlier", "find_outliers", "report_check"]

log = logging.getLogger(__name__)

#: Domains with fewer volumes are not checked for outliers.
FEWEST_FOR_OUTLIERS = 5
#: The limits of the rule: of the histogram in ranges of the domain, of the others as factors.
_HISTOGRAM, _NOISE, _AREA, _HEIGHT = 0.45, 3.0, 1.5, 2.0
#: Noise that counts as this much at least, in scaled units, and of CT in HU: that of ordinary scans of a head after
#: resampling to 1 mm is at most 8 HU, and enlarged slices have hardly any.
_LEAST_NOISE, _LEAST_NOISE_HU = 0.01, 8.0
#: Standard deviations from the median, and the factor between those and the median absolute deviation.
_DEVIATIONS, _MAD = 4.0, 1.4826
#: Numbers of volumes that are measured, and of outliers that are named, per domain.
_MOST_MEASURED, _LISTED = 1000, 10


@dataclasses.dataclass(frozen=True)
class Outlier:
    """A volume that differs from the others of its domain, and in what."""

    row: SliceRow
    reasons: tuple[str, ...]


def report_check(store: Path, rows: Sequence[SliceRow], *, measured: Collection[Split] | None = None) -> None:
    """Log a summary of each domain of ``rows``, and a warning for each outlier, by its number in the store.

    ``measured``: the splits whose slices are read; all by default. Raises :class:`~medcyclegan.errors.StoreError` for
    slices that cannot be read.
    """
    names = _known_names(store)
    chosen = {domain: _measured_rows(rows, domain, measured) for domain in sorted({row.domain for row in rows})}
    measures: dict[str, Measures] = {}
    with progress_bar("checking", sum(map(len, chosen.values()))) as bar:
        for own in chosen.values():
            for row in own:
                measures[row.file] = measure_stack(store, row)
                bar.advance()
    for domain, own in chosen.items():
        every = [row for row in rows if row.domain == domain]
        for line in _summary(every):
            log.info("%s: %s", domain, line)
        if all(row.modality is not None for row in every):
            _report_outliers(domain, own, [measures[row.file] for row in own], names)


def find_outliers(rows: Sequence[SliceRow], measures: Sequence[Measures]) -> list[Outlier]:
    """Return the outliers among the volumes ``rows`` of one domain by the rule of this module, in order."""
    own = [(row, found) for row, found in zip(rows, measures, strict=True) if found.histogram is not None]
    if len(own) < FEWEST_FOR_OUTLIERS or any(row.modality is None for row, _ in own):
        return []
    histograms = np.array([found.histogram for _, found in own])
    middle = np.median(histograms, axis=0)
    tenth = len(middle) // 10
    spread = max(float(middle[-1 - tenth] - middle[tenth]), 1e-3)
    distances = np.abs(histograms - middle).mean(axis=1) / spread
    noise = np.array([max(found.noise, _least_noise(row)) for row, found in own])
    ratios = {
        "noise": (_ratios(noise), _NOISE),
        "area of the foreground": (_ratios([found.area_cm2 for _, found in own]), _AREA),
        "height": (_ratios([found.height_mm for _, found in own]), _HEIGHT),
    }
    far = distances > max(_HISTOGRAM, float(np.median(distances)) + _DEVIATIONS * _deviation(distances))
    reasons: dict[int, list[str]] = collections.defaultdict(list)
    for place in np.flatnonzero(far):
        reasons[int(place)].append(
            f"its histogram differs by {distances[place]:.2g} of the domain's range (limit {_HISTOGRAM:g})"
        )
    for name, (logs, limit) in ratios.items():
        allowed = max(math.log(limit), _DEVIATIONS * _deviation(logs))
        for place in np.flatnonzero((logs if name == "noise" else np.abs(logs)) > allowed):
            reasons[int(place)].append(
                f"{name} {math.exp(logs[place]):.2g} times the median (limit: a factor of {limit:g})"
            )
    return [Outlier(own[place][0], tuple(reasons[place])) for place in sorted(reasons)]


def _least_noise(row: SliceRow) -> float:
    """Return the smallest noise that counts, in the scaled units of a volume."""
    if row.modality != "CT":
        return _LEAST_NOISE
    scaling = IntensityScaling.from_dict(row.scaling)
    return 2 * _LEAST_NOISE_HU / (scaling.upper - scaling.lower)


def _ratios(values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithms of positive values, relative to their median."""
    logs = np.log(np.maximum(values, 1e-6))
    centered: NDArray[np.float64] = logs - np.median(logs)
    return centered


def _deviation(values: NDArray[np.float64]) -> float:
    return _MAD * float(np.median(np.abs(values - np.median(values))))


def _measured_rows(rows: Sequence[SliceRow], domain: str, splits: Collection[Split] | None) -> list[SliceRow]:
    """Return the rows of ``domain`` to measure, at most 1,000 evenly spaced ones; no pictures."""
    own = [row for row in rows if row.domain == domain and (splits is None or row.split in splits)]
    if any(row.modality is None for row in own):
        return []
    if len(own) <= _MOST_MEASURED:
        return own
    return [own[int((n + 0.5) * len(own) / _MOST_MEASURED)] for n in range(_MOST_MEASURED)]


def _known_names(store: Path) -> Names:
    try:
        return load_names(store)
    except StoreError as error:
        log.warning("%s", error)
        return {}


def _report_outliers(domain: str, rows: Sequence[SliceRow], measures: Sequence[Measures], names: Names) -> None:
    if len(rows) < FEWEST_FOR_OUTLIERS:
        log.info("%s: fewer than %d volumes, so outliers are not searched", domain, FEWEST_FOR_OUTLIERS)
        return
    outliers = sorted(find_outliers(rows, measures), key=lambda found: sort_key(found.row, names))
    for outlier in outliers[:_LISTED]:
        log.warning("%s: volume %s is an outlier: %s", domain, label_of(outlier.row, names), "; ".join(outlier.reasons))
    if len(outliers) > _LISTED:
        log.warning("%s: %d more volumes are outliers", domain, len(outliers) - _LISTED)
    if outliers:
        log.info("%s: look at these volumes before training; medcyclegan slices --find N prints their paths", domain)
    else:
        log.info("%s: no outliers in histogram, noise and size among %d volumes", domain, len(rows))


def _summary(rows: Sequence[SliceRow]) -> list[str]:
    """Return the lines about the volumes of one domain, without its name."""
    slices = collections.Counter[str]()
    for row in rows:
        slices[row.split] += len(row.slices)
    splits = ", ".join(f"{slices[split]} {split}" for split in ("train", "validation", "test") if slices[split])
    patients = describe_patients({row.patient: row.split for row in rows})
    count = "1 volume" if len(rows) == 1 else f"{len(rows)} volumes"
    sources = collections.Counter(row.patient_source for row in rows)
    told = ", ".join(f"{text} ({sources[source]})" for source, text in PATIENT_SOURCES.items() if sources[source])
    return [
        f"{patients}, {count} ({describe_splits([row.split for row in rows])}), {slices.total()} slices ({splits})",
        f"patients: {told}",
        _describe_scaling(rows),
        *_describe_grids(rows),
    ]


def _describe_scaling(rows: Sequence[SliceRow]) -> str:
    modalities = collections.Counter(row.modality or "pictures" for row in rows)
    counts = ", ".join(f"{name} ({count})" for name, count in sorted(modalities.items()))
    scalings = [IntensityScaling.from_dict(row.scaling) for row in rows]
    lower, upper = _range([s.lower for s in scalings]), _range([s.upper for s in scalings])
    units = " and ".join(sorted({scaling.unit for scaling in scalings}))
    return f"modality: {counts}; -1 is {lower}, 1 is {upper} {units}"


def _describe_grids(rows: Sequence[SliceRow]) -> list[str]:
    """Return lines with the spacing and acquisition planes, and with the field of view of the volumes."""
    grids = [Volume(np.broadcast_to(np.False_, row.shape), np.array(row.affine)) for row in rows]
    if all(row.modality is None for row in rows):
        return [f"{_range([size for row in rows for size in row.shape[:2]])} pixels wide and high"]
    spacings = [axial_spacing(grid) for grid in grids]
    fields = [axial_extent(grid) for grid in grids]
    planes: Mapping[Any, int] = collections.Counter(acquisition(grid) for grid in grids)
    acquired = ", ".join(f"{plane} ({count})" for plane, count in sorted(planes.items()))
    return [
        f"pixels {_range([mm for s in spacings for mm in s[:2]])} mm, slices {_range([s[2] for s in spacings])} mm; "
        f"acquired {acquired}",
        f"field of view {_range([mm for f in fields for mm in f[:2]])} mm in the axial plane, "
        f"{_range([f[2] for f in fields])} mm high",
    ]


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.4g}" if f"{low:.4g}" == f"{high:.4g}" else f"{low:.4g} to {high:.4g}"
