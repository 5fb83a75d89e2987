"""Pairs of volumes of one patient on one grid, and their slices at the same position."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from medcyclegan.manifest import SliceRow

__all__ = ["RowPair", "row_pairs", "shared_slices"]

RowPair = tuple[SliceRow, SliceRow]


def row_pairs(first: Iterable[SliceRow], second: Iterable[SliceRow]) -> list[RowPair]:
    """Return the pairs of rows, one of ``first`` and one of ``second``, of the same patient and grid.

    Slices that were cropped to the foreground may have different grids, so their volumes are not paired, unless one was
    registered to the other. A registered volume is paired only with the volume to which it was registered, and with
    others that were registered to the same one. Volumes of doubtful patients, which may be several, are not paired.
    """
    of_patient: dict[str, list[SliceRow]] = defaultdict(list)
    for row in second:
        of_patient[row.patient].append(row)
    return [(a, b) for a in first for b in of_patient.get(a.patient, ()) if _same_grid(a, b)]


def shared_slices(pair: RowPair) -> list[tuple[int, int]]:
    """Return the indices in both stacks of the slices that both volumes have, from inferior to superior."""
    place_a, place_b = ({index: n for n, index in enumerate(row.slices)} for row in pair)
    return [(place_a[index], place_b[index]) for index in pair[0].slices if index in place_b]


def _same_grid(a: SliceRow, b: SliceRow) -> bool:
    if "doubtful" in (a.patient_source, b.patient_source):
        return False
    aligned = a.frame == b.frame
    if not aligned and (a.is_registered or b.is_registered or a.cropped or b.cropped):
        return False
    return a.shape == b.shape and a.pixel_mm == b.pixel_mm and bool(np.allclose(a.affine, b.affine, atol=1e-3))
