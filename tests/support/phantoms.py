"""Synthetic volumes for tests: voxels that encode their position, small heads, and NIfTI files of them.

Nothing here uses the package's own reader or writer, so that tests of those are independent of them.
"""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medcyclegan.volume import Volume

#: Unit vector in RAS+ of each letter.
_DIRECTION = {
    "R": (1, 0, 0),
    "L": (-1, 0, 0),
    "A": (0, 1, 0),
    "P": (0, -1, 0),
    "S": (0, 0, 1),
    "I": (0, 0, -1),
}

#: Converts points and affines between LPS+ and RAS+; not the package's own matrix.
LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def make_affine(
    axcodes: str = "RAS",
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    *,
    origin: tuple[float, float, float] = (-11.5, 7.25, -42.0),
    rotation_degrees: tuple[float, float, float] = (0.0, 0.0, 0.0),
    shear: float = 0.0,
) -> NDArray[np.float64]:
    """Return a 4 x 4 affine to RAS+ mm.

    ``axcodes`` is where each array axis points (``"LPS"``: i to the left, j to posterior, k to
    superior), ``spacing`` in mm, ``origin`` the centre of voxel (0, 0, 0) in mm; the axes are then
    turned about x, y and z. ``shear`` leans axis k towards j by that angle in degrees, as a gantry's tilt
    does; ``spacing`` stays the distance between voxel centres.
    """
    directions = np.array([_DIRECTION[letter] for letter in axcodes], dtype=np.float64).T
    lean = np.radians(shear)
    directions[:, 2] = np.cos(lean) * directions[:, 2] + np.sin(lean) * directions[:, 1]
    for axis, degrees in enumerate(rotation_degrees):
        cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        turn = np.eye(3)
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turn[a, a], turn[a, b], turn[b, a], turn[b, b] = cosine, -sine, sine, cosine
        directions = turn @ directions
    affine = np.eye(4)
    affine[:3, :3] = directions * np.array(spacing)
    affine[:3, 3] = origin
    return affine


@dataclasses.dataclass(frozen=True, eq=False)
class Grid:
    """A shape ``(I, J, K)`` and an affine, voxel to RAS+ mm."""

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]


#: Ordinary and awkward grids without shear, by name. ``@pytest.mark.parametrize("name", GRIDS)``.
GRIDS: dict[str, Grid] = {
    "axial_ras": Grid((12, 14, 10), make_affine("RAS")),
    "axial_lps": Grid((12, 14, 10), make_affine("LPS", origin=(60.0, 70.0, -30.0))),
    "axial_las": Grid((12, 14, 10), make_affine("LAS", origin=(60.0, -70.0, -30.0))),
    "sagittal_pir": Grid((14, 10, 9), make_affine("PIR", (1.0, 1.0, 1.5), origin=(-6.0, 50.0, 40.0))),
    "coronal_lsp": Grid((12, 9, 14), make_affine("LSP", (1.0, 1.0, 2.0), origin=(20.0, 30.0, -10.0))),
    "oblique": Grid((12, 14, 10), make_affine("LPS", (0.9, 1.1, 2.5), rotation_degrees=(12.0, -7.0, 21.0))),
    "oblique_sagittal": Grid((13, 11, 8), make_affine("PIR", (1.0, 0.8, 3.0), rotation_degrees=(9.0, 14.0, -5.0))),
    "left_handed": Grid((12, 14, 10), make_affine("LAS", (1.0, 2.0, 3.0), rotation_degrees=(0.0, 0.0, 4.0))),
    "anisotropic": Grid((16, 12, 5), make_affine("LPS", (0.488281, 0.7, 7.0))),
    "off_centre": Grid((12, 14, 10), make_affine("RAS", origin=(812.25, -455.5, 1530.75))),
    "one_slice": Grid((12, 14, 1), make_affine("LPS", (1.0, 1.0, 5.0), rotation_degrees=(3.0, 0.0, 0.0))),
}

#: A gantry tilted by 15 degrees: a sheared affine.
TILTED_GRID = Grid((12, 14, 10), make_affine("LPS", (0.9, 0.9, 3.0), shear=15.0))


def linear_volume(
    shape: tuple[int, int, int],
    affine: NDArray[np.float64],
    coefficients: tuple[float, float, float] = (2.0, 3.0, 5.0),
    offset: float = 0.0,
    **fields: Any,
) -> Volume:
    """Return a float32 volume whose voxel at (x, y, z) mm, RAS+, is ``2 x + 3 y + 5 z + offset``.

    Array and affine are then checked together: see :func:`linear_error`.
    """
    return Volume(linear_values(shape, affine, coefficients, offset).astype(np.float32), affine, **fields)


def linear_values(
    shape: tuple[int, int, int],
    affine: NDArray[np.float64],
    coefficients: tuple[float, float, float] = (2.0, 3.0, 5.0),
    offset: float = 0.0,
) -> NDArray[np.float64]:
    """Return what :func:`linear_volume` holds on this grid, in float64, shape ``(I, J, K)``."""
    weights = np.asarray(coefficients) @ affine[:3, :3]
    i, j, k = np.ogrid[: shape[0], : shape[1], : shape[2]]
    values = weights[0] * i + weights[1] * j + weights[2] * k + float(np.asarray(coefficients) @ affine[:3, 3]) + offset
    return np.asarray(values, dtype=np.float64)


def linear_error(
    volume: Volume, coefficients: tuple[float, float, float] = (2.0, 3.0, 5.0), offset: float = 0.0
) -> float:
    """Return the largest distance between a voxel and the value expected at its position."""
    expected = linear_values(volume.shape, volume.affine, coefficients, offset)
    return float(np.abs(volume.array - expected).max())


def _head_radius(shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Distance from the centre, 1 on an ellipsoid that fills most of the grid."""
    axes = [np.linspace(-1.15, 1.15, n) if n > 1 else np.zeros(1) for n in shape]
    i, j, k = np.meshgrid(*axes, indexing="ij")
    return np.sqrt(i**2 + j**2 + k**2)


def head_ct(
    shape: tuple[int, int, int] = (40, 48, 24),
    affine: NDArray[np.float64] | None = None,
    *,
    seed: int = 0,
) -> Volume:
    """Return an int16 CT of an egg: air -1000, soft tissue about 40, bone about 1000 HU."""
    radius = _head_radius(shape)
    values = np.full(shape, -1000.0)
    values[radius < 1.0] = 40.0
    values[(radius > 0.8) & (radius < 0.93)] = 1000.0
    values += np.random.default_rng(seed).normal(0.0, 8.0, shape)
    place = make_affine("LPS", (5.0, 5.0, 8.0)) if affine is None else affine
    return Volume(np.rint(values).astype(np.int16), place, modality="CT")


def head_mr(
    shape: tuple[int, int, int] = (40, 48, 24),
    affine: NDArray[np.float64] | None = None,
    *,
    seed: int = 0,
    inverted: bool = False,
) -> Volume:
    """Return a float32 MR of the same egg: air about 0, brain 400 with a dark or bright middle.

    ``inverted`` swaps the contrast inside the head, as T2 does against T1.
    """
    radius = _head_radius(shape)
    brain, middle = (250.0, 700.0) if inverted else (400.0, 120.0)
    values = np.zeros(shape)
    values[radius < 1.0] = 600.0
    values[radius < 0.93] = 30.0
    values[radius < 0.8] = brain
    values[radius < 0.3] = middle
    values = np.abs(values + np.random.default_rng(seed).normal(0.0, 6.0, shape))
    place = make_affine("LPS", (5.0, 5.0, 8.0)) if affine is None else affine
    return Volume(values.astype(np.float32), place, modality="MR")


def write_nifti(
    volume: Volume,
    path: Path,
    *,
    dtype: Any = None,
    sform_code: int = 1,
    qform_code: int = 1,
    units: str = "mm",
    version: int = 1,
    **fields: Any,
) -> Path:
    """Write ``volume`` with nibabel alone and return ``path`` (``.nii`` or ``.nii.gz``).

    ``dtype`` casts the array first (no scaling is chosen by nibabel); ``fields`` are header fields
    set last, unchanged (``scl_slope=2.0``, ``descrip=b"…"``), so that a header may also be wrong.
    """
    image_class = nib.Nifti2Image if version == 2 else nib.Nifti1Image
    array = volume.array if dtype is None else volume.array.astype(dtype)
    image = image_class(array, None, dtype=array.dtype)
    image.header.set_sform(volume.affine, 1)
    image.header.set_qform(volume.affine, 1, strip_shears=True)
    image.header.set_xyzt_units(units)
    image.header.set_data_shape(array.shape)
    header = image.header.copy()
    header["sform_code"], header["qform_code"] = sform_code, qform_code
    header["scl_slope"], header["scl_inter"] = 1.0, 0.0
    header["vox_offset"] = header.single_vox_offset
    header["magic"] = header.single_magic
    for name, value in fields.items():
        header[name] = value
    content = header.binaryblock + bytes(4) + np.asfortranarray(array).tobytes(order="F")
    if path.name.endswith(".gz"):
        content = gzip.compress(content, compresslevel=1, mtime=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def stored_box(dtype: str = "i2") -> Volume:
    """Return whole numbers from 0 to 99 on the grid ``axial_lps``."""
    grid = GRIDS["axial_lps"]
    values = np.random.default_rng(5).integers(0, 100, grid.shape)
    return Volume(values.astype(dtype), grid.affine)
