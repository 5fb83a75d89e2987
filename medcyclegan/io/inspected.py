"""The row of an inspection: one series or file, and whether it can be read."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medcyclegan.errors import IntensityError, MedCycleGANError
from medcyclegan.io.options import ReadOptions, option_texts
from medcyclegan.io.synthetic import check_synthetic
from medcyclegan.volume import Volume

__all__ = ["InspectedVolume", "Verdict", "geometry_fields", "refused_row", "with_synthetic"]

Verdict = Literal["ok", "ok with options", "refused", "left out", "listed"]


@dataclasses.dataclass(frozen=True)
class InspectedVolume:
    """One series or file, and the result of reading it. Unknown fields have no value (None).

    ``path`` is as the user named it, for a series in several folders the folder that contains these; ``files`` is the
    number of its files, and ``file_paths`` their paths. ``volumes`` counts echoes, phases or time points. ``gap_mm`` is
    the smallest and the largest distance between neighboring slices, along their normal; ``orientation`` the patient
    directions in which array indices grow, such as ``LPS``; ``oblique_degrees`` the largest angle between them and the
    axes. ``options`` are those that the verdict ``ok with options`` needs; ``reason`` is the message of the refusal,
    which ends with the ``remedy``; ``notes`` are the warnings that reading would log. ``synthetic``: the file is marked
    as not acquired. ``patient`` is the PatientID of DICOM. A series with the verdict ``listed`` is on a
    DICOMweb service and was not read; ``path`` is its address.
    """

    path: str
    kind: str
    verdict: Verdict
    files: int = 1
    options: tuple[str, ...] = ()
    reason: str = ""
    remedy: str = ""
    notes: tuple[str, ...] = ()
    series_uid: str | None = None
    series_number: str | None = None
    description: str | None = None
    modality: str | None = None
    columns: int | None = None
    rows: int | None = None
    slices: int | None = None
    volumes: int | None = None
    spacing_mm: tuple[float, float, float] | None = None
    gap_mm: tuple[float, float] | None = None
    orientation: str | None = None
    oblique_degrees: float | None = None
    transfer_syntax: str | None = None
    synthetic: bool = False
    patient: str | None = None
    file_paths: tuple[str, ...] = ()

    @property
    def folders(self) -> int:
        """The number of folders that contain its files."""
        return len({os.path.dirname(path) for path in self.file_paths})


def geometry_fields(affine: NDArray[np.float64]) -> dict[str, Any]:
    """Return spacing, orientation and obliqueness of an affine as fields of a row."""
    grid = Volume(np.zeros((1, 1, 1), dtype=np.uint8), affine)
    return {
        "spacing_mm": tuple(round(value, 4) for value in grid.spacing_mm),
        "orientation": grid.orientation,
        "oblique_degrees": round(grid.oblique_degrees, 2),
    }


def refused_row(row: InspectedVolume, error: MedCycleGANError) -> InspectedVolume:
    """Return ``row`` as refused, with the error's message and remedy."""
    return dataclasses.replace(row, verdict="refused", options=(), reason=str(error), remedy=error.remedy)


def with_synthetic(row: InspectedVolume, why: str, options: ReadOptions) -> InspectedVolume:
    """Return the row of a readable volume with the consequence of being synthetic (``why``, else empty)."""
    row = dataclasses.replace(row, synthetic=bool(why))
    try:
        if check_synthetic(why, options, row.path):
            return dataclasses.replace(row, notes=(*row.notes, f"{why} says that it is synthetic, not acquired"))
    except IntensityError as error:
        return dataclasses.replace(
            row,
            verdict="ok with options",
            options=(*row.options, *option_texts(error.options)),
            reason=f"{row.reason}; {error}" if row.reason else str(error),
            remedy=error.remedy,
        )
    return row
