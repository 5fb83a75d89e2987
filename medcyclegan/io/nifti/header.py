"""Read the NIfTI header, and check all of its claims.

NIfTI-1 (348 bytes) and NIfTI-2 (540 bytes) in one file, either byte order. Source: nifti1.h and nifti2.h
of the NIfTI Data Format Working Group.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import nibabel as nib
import numpy as np

from medcyclegan.errors import ReadError
from medcyclegan.io.notes import Notes
from medcyclegan.io.streams import ByteStream

__all__ = ["NiftiLayout", "read_layout"]

#: datatype codes of real scalars, as numpy names them.
_SCALARS = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
_REFUSED_TYPES = {
    1: "1-bit", 32: "complex", 128: "RGB", 1536: "128-bit float", 1792: "complex", 2048: "complex", 2304: "RGBA",
}  # fmt: skip
#: Extensions precede the voxels; larger ones are refused.
_LARGEST_OFFSET = 1 << 28


@dataclasses.dataclass(frozen=True, eq=False)
class NiftiLayout:
    """The layout of a NIfTI file, by its header.

    ``header`` is nibabel's, in the file's byte order; ``shape`` all stored axes; ``stored_type`` with
    byte order; ``offset`` of the first voxel in bytes; ``slope`` and ``intercept`` are (1, 0) if
    the header has no scaling.
    """

    header: Any
    shape: tuple[int, ...]
    stored_type: np.dtype[Any]
    offset: int
    slope: float
    intercept: float

    @property
    def grid(self) -> tuple[int, int, int]:
        """The spatial axes ``(I, J, K)``, 1 where the file has no such axis."""
        i, j, k = (*self.shape, 1, 1)[:3]
        return i, j, k

    @property
    def volumes(self) -> int:
        """The number of volumes along the fourth axis."""
        return self.shape[3] if len(self.shape) > 3 else 1

    @property
    def volume_bytes(self) -> int:
        """The stored size of one volume."""
        return math.prod(self.grid) * self.stored_type.itemsize


def read_layout(stream: ByteStream, max_voxels: int, notes: Notes) -> NiftiLayout:
    """Read the header at the start of ``stream`` and check everything but the geometry.

    Raises :class:`~medcyclegan.errors.ReadError` for anything but a single-file NIfTI of real scalars, for
    more than ``max_voxels`` voxels, and for a file shorter than its header claims. No memory is allocated for voxels.
    """
    header = _read_header(stream)
    shape = _find_shape(stream.name, header, max_voxels)
    stored_type = _find_type(stream.name, header, notes)
    offset = _find_offset(stream.name, header)
    slope, intercept = _find_scaling(stream.name, header)
    layout = NiftiLayout(header, shape, stored_type, offset, slope, intercept)
    stream.require(offset + math.prod(shape) * stored_type.itemsize, f"an image of {_times(shape)} voxels")
    return layout


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)


def _read_header(stream: ByteStream) -> Any:
    what = "a NIfTI header"
    start = stream.read(4, what)
    for order in "<>":
        size = int(np.frombuffer(start, dtype=f"{order}i4")[0])
        if size not in (348, 540):
            continue
        block = start + stream.read(size - 4, what)
        magic = block[344:348] if size == 348 else block[4:12]
        if magic in (b"n+1\0", b"n+2\0\r\n\x1a\n"):
            header_class = nib.Nifti1Header if size == 348 else nib.Nifti2Header
            return header_class(block, order, check=False)
        if magic[:3] in (b"ni1", b"ni2"):
            raise ReadError(
                f"{stream.name}: a header of a .hdr/.img pair",
                remedy=("only single files with header and voxels are read, convert the pair to .nii.gz first"),
            )
        raise ReadError(
            f"{stream.name}: an Analyze 7.5 header or a damaged NIfTI one (magic {magic!r})",
            remedy=("Analyze does not distinguish left and right, convert it to NIfTI with the program that wrote it"),
        )
    raise ReadError(
        f"{stream.name}: not a NIfTI file (it starts with {start!r})", remedy="its name or its content is wrong"
    )


def _find_shape(name: str, header: Any, max_voxels: int) -> tuple[int, ...]:
    dims = [int(n) for n in header["dim"]]
    if not 2 <= dims[0] <= 7:
        raise ReadError(f"{name}: dim[0] is {dims[0]}", remedy="an image has 2 to 7 axes, so the header is damaged")
    shape = tuple(dims[1 : dims[0] + 1])
    if min(shape) < 1:
        raise ReadError(f"{name}: an axis of length {min(shape)} in {_times(shape)}", remedy="the header is damaged")
    if math.prod(shape) > max_voxels:
        raise ReadError(
            f"{name}: the header claims {_times(shape)} = {math.prod(shape)} voxels, more than {max_voxels}",
            remedy=f"if that is right, pass --max-voxels {math.prod(shape)}",
        )
    if any(n > 1 for n in shape[4:]):
        raise ReadError(
            f"{name}: an image of {_times(shape)} voxels has more than four axes (vectors or tensors)",
            remedy="save one component of it as a 3-D file",
        )
    return shape


def _find_type(name: str, header: Any, notes: Notes) -> np.dtype[Any]:
    code = int(header["datatype"])
    if code not in _SCALARS:
        kind = _REFUSED_TYPES.get(code, "unknown")
        raise ReadError(
            f"{name}: voxels of {kind} type (datatype {code})",
            remedy=(
                "a volume has one real number per voxel, save it as int16 or float32 (of complex data the magnitude)"
            ),
        )
    stored_type = np.dtype(_SCALARS[code]).newbyteorder(header.endianness)
    if int(header["bitpix"]) != 8 * stored_type.itemsize:
        notes.warn(f"bitpix is {int(header['bitpix'])} where datatype {code} has {8 * stored_type.itemsize}: ignored")
    return stored_type


def _find_offset(name: str, header: Any) -> int:
    offset = float(header["vox_offset"])
    least = int(header["sizeof_hdr"]) + (4 if int(header["sizeof_hdr"]) == 348 else 0)
    if not least <= offset <= _LARGEST_OFFSET or offset != int(offset):
        raise ReadError(
            f"{name}: vox_offset is {offset:g}",
            remedy=(f"voxels start between byte {least} and {_LARGEST_OFFSET}, so the header is damaged"),
        )
    return int(offset)


def _find_scaling(name: str, header: Any) -> tuple[float, float]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or math.isnan(slope):  # means no scaling, by the standard and for some writers
        return 1.0, 0.0
    if not math.isfinite(slope) or not math.isfinite(intercept):
        raise ReadError(
            f"{name}: scl_slope {slope:g} and scl_inter {intercept:g}",
            remedy=(
                "a scaling is finite, so the header is damaged or was never set; set scl_slope to 1 and scl_inter to 0 "
                "if the voxels are right"
            ),
        )
    return slope, intercept
