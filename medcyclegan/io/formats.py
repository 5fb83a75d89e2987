"""The file formats that are read, by the endings of names."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

__all__ = ["BESIDE", "FORMATS", "PAIR_ENDINGS", "Format", "ending_of", "format_of_name"]

Format = Literal["dicom", "nifti", "image", "itk"]

FORMATS: dict[str, Format] = {
    ".nii": "nifti", ".nii.gz": "nifti", ".png": "image", ".jpg": "image", ".jpeg": "image",
    ".mha": "itk", ".mhd": "itk", ".nrrd": "itk", ".dcm": "dicom", ".dicom": "dicom", ".ima": "dicom",
}  # fmt: skip
#: Of files that hold the header or the voxels alone.
PAIR_ENDINGS = (".hdr", ".img", ".hdr.gz", ".img.gz")
#: Of files that may lie beside any volume.
BESIDE = {".json", ".bval", ".bvec", ".tsv", ".csv", ".txt", ".md"}


def ending_of(path: Path) -> str:
    """Return the ending of a name in lower case, both parts of ``.nii.gz``."""
    name = path.name.lower()
    return "".join(Path(name).suffixes[-2:]) if name.endswith(".gz") else Path(name).suffix


def format_of_name(path: Path) -> Format | None:
    """Return what a name alone says of a file: None for sidecars, DICOM where the ending says nothing."""
    ending = ending_of(path)
    return None if ending in BESIDE else FORMATS.get(ending, "nifti" if ending in PAIR_ENDINGS else "dicom")
