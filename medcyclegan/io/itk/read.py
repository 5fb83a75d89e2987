"""Read MetaImage (.mha, .mhd) and NRRD (.nrrd) files: geometry by SimpleITK, voxels to their checksum."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the field's name for it
from numpy.typing import NDArray

from medcyclegan.errors import AmbiguousError, GeometryError, ReadError
from medcyclegan.io.axes import axis_directions
from medcyclegan.io.header import VolumeHeader
from medcyclegan.io.itk.headers import VoxelsPlace, read_metaimage_header, read_nrrd_header
from medcyclegan.io.nifti.read import allocate
from medcyclegan.io.notes import Notes
from medcyclegan.io.options import ReadOptions
from medcyclegan.io.streams import ByteStream
from medcyclegan.io.synthetic import SYNTHETIC_MARK, check_synthetic, why_synthetic
from medcyclegan.volume import LPS_RAS, Volume

__all__ = ["last_line", "read_itk", "read_itk_header"]

_log = logging.getLogger(__name__)

_SCALARS = {
    sitk.sitkUInt8: "u1", sitk.sitkInt8: "i1", sitk.sitkUInt16: "u2", sitk.sitkInt16: "i2", sitk.sitkUInt32: "u4",
    sitk.sitkInt32: "i4", sitk.sitkUInt64: "u8", sitk.sitkInt64: "i8", sitk.sitkFloat32: "f4", sitk.sitkFloat64: "f8",
}  # fmt: skip


def read_itk(path: Path, options: ReadOptions | None = None) -> Volume:
    """Read a MetaImage or NRRD file; the array keeps the stored type, ``(I, J, K)``.

    Raises :class:`~medcyclegan.errors.ReadError` for a damaged file (compressed voxels are read to their
    checksum), several numbers per voxel, or header fields that ITK would ignore;
    :class:`~medcyclegan.errors.GeometryError` for a singular affine, and for axes whose direction neither the header
    nor ``options.assume_axes`` states.
    """
    options = options or ReadOptions()
    header, place = _read_header(path, options, Notes(_log, path.name))
    synthetic = check_synthetic(header.why_synthetic, options, str(path))
    stored = _read_voxels(path, place, header.shape, header.dtype, options.volume)
    return Volume(stored, header.affine, modality=header.modality, notes=header.notes, synthetic=synthetic)


def read_itk_header(path: Path, options: ReadOptions | None = None) -> VolumeHeader:
    """Read the header alone and silently, with the refusals of :func:`read_itk` that do not concern voxels."""
    header, _ = _read_header(path, options or ReadOptions(), Notes(None, path.name))
    return header


def _read_header(path: Path, options: ReadOptions, notes: Notes) -> tuple[VolumeHeader, VoxelsPlace]:
    """Return the header, and where the voxels are stored."""
    nrrd = path.name.lower().endswith(".nrrd")
    place = read_nrrd_header(path, notes) if nrrd else read_metaimage_header(path, notes)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ReadError(
            f"{path}: its header cannot be read ({last_line(error)})", remedy="copy or export it again"
        ) from error
    if reader.GetPixelIDValue() not in _SCALARS:
        kind = sitk.GetPixelIDValueAsString(reader.GetPixelIDValue())
        raise ReadError(
            f"{path}: voxels of type {kind}", remedy="a volume has one real number per voxel, save one component"
        )
    shape = _checked_shape(path, reader, options.max_voxels)
    affine = _to_affine(path, reader, _directions(path, reader, place, options, notes), notes)
    why = why_synthetic(path, "Comment" if SYNTHETIC_MARK in place.comment else "")
    dtype = np.dtype(_SCALARS[reader.GetPixelIDValue()])
    return VolumeHeader(shape, dtype, affine, place.modality, why, notes.sentences), place


def last_line(error: RuntimeError) -> str:
    """Return the last line of an ITK exception, which contains the reason."""
    return str(error).strip().splitlines()[-1].strip()


def _checked_shape(path: Path, reader: sitk.ImageFileReader, max_voxels: int) -> tuple[int, ...]:
    shape = tuple(int(n) for n in reader.GetSize())
    times = " x ".join(str(n) for n in shape)
    if not 2 <= len(shape) <= 4 or min(shape) < 1:
        raise ReadError(f"{path}: an image of {times} voxels", remedy="a volume has 2 to 4 axes, none of them empty")
    if math.prod(shape) > max_voxels:
        raise ReadError(
            f"{path}: the header claims {times} = {math.prod(shape)} voxels, more than {max_voxels}",
            remedy=f"if that is right, pass --max-voxels {math.prod(shape)}",
        )
    return shape


def _directions(
    path: Path, reader: sitk.ImageFileReader, place: VoxelsPlace, options: ReadOptions, notes: Notes
) -> NDArray[np.float64]:
    """Return the axes' directions in LPS+, 3 x 3: the header's, or those that the user states if it has none."""
    dimension = reader.GetDimension()
    axes = min(dimension, 3)
    directions = np.eye(3)
    directions[:axes, :axes] = np.array(reader.GetDirection()).reshape(dimension, dimension)[:axes, :axes]
    if not place.missing_axes:
        return directions
    if options.assume_axes is None:
        raise GeometryError(
            f"{path}: its header has no {place.missing_axes}, so it does not say which axis points where (left and "
            "right may be exchanged)",
            remedy=(
                "repair the header, or pass --assume-axes LPS if its axes point to the left, "
                "posterior and superior, as ITK assumes"
            ),
            options={"assume_axes": "LPS"},
        )
    notes.warn(f"its header has no {place.missing_axes}: the axes are taken as {options.assume_axes} (--assume-axes)")
    return LPS_RAS[:3, :3] @ axis_directions(options.assume_axes)


def _to_affine(
    path: Path, reader: sitk.ImageFileReader, directions: NDArray[np.float64], notes: Notes
) -> NDArray[np.float64]:
    """Return voxel to RAS+ mm from ITK's origin and spacing and the directions in LPS+; of 4 axes the first three."""
    dimension = reader.GetDimension()
    axes = min(dimension, 3)
    if not np.allclose(np.linalg.norm(directions, axis=0), 1, rtol=0, atol=1e-3):
        raise GeometryError(
            f"{path}: its direction cosines are not of length 1, so the spacing is uncertain",
            remedy="repair the header",
        )
    affine = np.eye(4)
    affine[:3, :3] = directions * [*reader.GetSpacing()[:axes], 1.0][:3]
    affine[:axes, 3] = np.array(reader.GetOrigin())[:axes]
    if dimension == 2:
        notes.warn("an image of two axes: taken as one axial slice, 1 mm thick, at z = 0")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise GeometryError(
            f"{path}: its spacing or direction is singular or not finite, so voxels have no position in space",
            remedy="repair the header",
        )
    return LPS_RAS @ affine


def _read_voxels(
    path: Path, place: VoxelsPlace, shape: tuple[int, ...], dtype: np.dtype[Any], volume: int | None
) -> NDArray[Any]:
    i, j, k, count = (*shape, 1, 1)[:4]
    if volume is None and count > 1:
        raise AmbiguousError(
            f"{path}: a 4-D file of {count} volumes", remedy=f"choose one with --volume N, 0 to {count - 1}"
        )
    chosen = volume or 0
    if chosen >= count:
        raise AmbiguousError(
            f"{path}: --volume {chosen}: the file has {count}, counted from 0", remedy="choose one of these"
        )
    stored_type = dtype.newbyteorder(place.byte_order)
    size = i * j * k * dtype.itemsize
    try:
        with place.file.open("rb") as file:
            file.seek(place.offset)
            stream = ByteStream(file, str(path), place.packing)
            stream.require(size * count, f"an image of {' x '.join(str(n) for n in shape)} voxels")
            stream.skip(chosen * size, "the voxels")
            stored = allocate(stream.name, (i, j, k), stored_type)
            stream.read_into(stored.reshape(-1, order="F").view(np.uint8).data, "the voxels")
            stream.skip((count - chosen - 1) * size, "the last volume")
            stream.finish()
    except OSError as error:
        raise ReadError(f"{place.file} cannot be read: {error.strerror or error}") from error
    if not stored_type.isnative:
        stored = stored.byteswap(inplace=True).view(dtype)
    return stored
