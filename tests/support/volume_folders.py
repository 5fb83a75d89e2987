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


#: Volumes of a few voxels, and a configuration that cuts them into slices of 32 pixels.
TINY_SHAPE = (24, 28, 8)
TINY = load_config("default", ["slicing.size=32", "slicing.pixel_mm=8"])


def add_tiny(folder: Path, *names: str, seed: int = 0) -> None:
    """Write a tiny MR volume with each of ``names`` into ``folder``, each with another seed from ``seed`` on."""
    for number, name in enumerate(names):
        write_nifti(head_mr(TINY_SHAPE, seed=seed + number), folder / f"{name}.nii")
