"""Synthetic DICOM series with the header attributes of a hospital, on the grids that DICOM can hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support import dicom_phantoms as made
from support.phantoms import GRIDS, TILTED_GRID, Grid, make_affine

#: Grids as DICOM reads them: right-handed, slices ascending along their normal.
STACKS: dict[str, Grid] = {
    name: GRIDS[name]
    for name in ("axial_ras", "axial_lps", "oblique", "oblique_sagittal", "anisotropic", "off_centre", "one_slice")
}
STACKS["coronal_lip"] = Grid((12, 9, 14), make_affine("LIP", (1.0, 1.0, 2.0), origin=(20.0, 30.0, -10.0)))
STACKS["tilted"] = TILTED_GRID


def series(folder: Path, grid: Grid = STACKS["oblique"], modality: str = "CT", **changes: Any) -> Path:
    """Write a synthetic series with the header attributes of a hospital; ``changes`` are applied to every slice."""
    slices = made.slices_of(made.placed_volume(grid.shape, grid.affine, modality), intercept=-8192 * 4)
    for dataset in slices:
        dataset.ReferringPhysicianName, dataset.AccessionNumber, dataset.StudyID = "", "A1", "7"
        dataset.BodyPartExamined, dataset.PositionReferenceIndicator = "HEAD", ""
        dataset.SeriesDescription = "t1 mprage"
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
    made.save(slices, folder)
    return folder
