"""Label maps of small heads made of ellipsoids, with the label numbers of FreeSurfer and SynthSeg."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from support.phantoms import make_affine, write_nifti

from medcyclegan.volume import Volume

#: Millimetres of a label map's voxel.
SPACING = 4.0


def label_array(shape: tuple[int, int, int] = (48, 56, 56)) -> np.ndarray:
    """Return a head in RAS+ order: skin, soft tissue, skull, fluid, cortex, white matter, ventricles, eyes, neck."""
    centre = np.array([(shape[0] - 1) / 2, (shape[1] - 1) / 2, shape[2] - 24.0])
    x, y, z = (
        axis * SPACING
        for axis in np.meshgrid(*(np.arange(n) - c for n, c in zip(shape, centre, strict=True)), indexing="ij")
    )

    def inside(rx, ry, rz, at=(0.0, 0.0, 0.0)):
        return ((x - at[0]) / rx) ** 2 + ((y - at[1]) / ry) ** 2 + ((z - at[2]) / rz) ** 2 < 1

    labels = np.zeros(shape, np.int32)
    neck = (np.hypot(x, y + 15) < 56) & (z < -40)
    labels[inside(86, 102, 88) | neck] = 511
    labels[inside(81, 97, 83) | (neck & (np.hypot(x, y + 15) < 50))] = 507
    labels[inside(75, 91, 77)] = 515
    labels[inside(67, 83, 69)] = 24
    right = x > 0
    labels[inside(62, 78, 64)] = 3
    labels[inside(62, 78, 64) & right] = 42
    labels[inside(54, 70, 56)] = 2
    labels[inside(54, 70, 56) & right] = 41
    labels[inside(9, 26, 13)] = 4
    labels[inside(9, 26, 13) & right] = 43
    labels[inside(14, 14, 14, (24, 4, 0))] = 51
    labels[inside(14, 14, 14, (-24, 4, 0))] = 12
    labels[inside(13, 13, 13, (30, 84, -46)) | inside(13, 13, 13, (-30, 84, -46))] = 506
    labels[(np.hypot(x, y + 40) < 9) & (z < -60)] = 512
    return labels


def label_volume(array: np.ndarray | None = None, orientation: str = "RAS", **affine) -> Volume:
    """Return a label map as a volume; ``array`` is in the order of ``orientation``."""
    array = label_array() if array is None else array
    return Volume(array, make_affine(orientation, (SPACING,) * 3, **affine))


def write_labels(path: Path, array: np.ndarray | None = None) -> Path:
    """Write a label map as NIfTI."""
    write_nifti(label_volume(array), path)
    return path
