"""A folder of synthetic volumes to slice, and a configuration of small slices."""

from __future__ import annotations

from pathlib import Path

from support.phantoms import head_mr, write_nifti

from medcyclegan.config import load_config

SMALL_VALUES = ("slicing.size=64", "slicing.pixel_mm=4")
SMALL = load_config("default", SMALL_VALUES)


def make_volumes(folder: Path, patients: int = 2) -> Path:
    """Write a T1 and a T2 of each of two groups of ``patients`` under ``folder`` and return it."""
    for n in range(patients):
        write_nifti(head_mr(seed=n), folder / "t1" / f"p{n}_t1.nii.gz")
        write_nifti(head_mr(seed=n, inverted=True), folder / "t2" / f"q{n}_t2.nii.gz")
    return folder
