"""MetaImage (.mha, .mhd) and NRRD (.nrrd) files: geometry by SimpleITK, voxels read to their checksum."""

from __future__ import annotations

import dataclasses
import logging
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the field's name for it
from numpy.typing import NDArray

from medcyclegan.errors import AmbiguousError, GeometryError, ReadError, VolumeError, WriteError
from medcyclegan.io.axes import axis_directions
from medcyclegan.io.itk.headers import VoxelsPlace, read_metaimage_header, read_nrrd_header
from medcyclegan.io.nifti.read import allocate
from medcyclegan.io.notes import Notes
from medcyclegan.io.options import ReadOptions
from medcyclegan.io.stored import count_differing, find_stored_type, slabs, to_stored
from medcyclegan.io.streams import ByteStream
from medcyclegan.io.synthetic import SYNTHETIC_MARK, check_synthetic, why_synthetic
from medcyclegan.storage import atomic_write
from medcyclegan.volume import Volume

__all__ = ["ItkFacts", "check_itk", "read_itk", "read_itk_facts", "write_itk"]

_log = logging.getLogger(__name__)

#: World axes of ITK (LPS+) to ours (RAS+), and back.
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SCALARS = {
    sitk.sitkUInt8: "u1", sitk.sitkInt8: "i1", sitk.sitkUInt16: "u2", sitk.sitkInt16: "i2", sitk.sitkUInt32: "u4",
    sitk.sitkInt32: "i4", sitk.sitkUInt64: "u8", sitk.sitkInt64: "i8", sitk.sitkFloat32: "f4", sitk.sitkFloat64: "f8",
}  # fmt: skip
_LARGEST_SHEAR_DEGREES = 1e-3


@dataclasses.dataclass(frozen=True, eq=False)
class ItkFacts:
    """What the header alone says: ``shape`` with all axes, ``affine`` to RAS+ mm, ``dtype`` as stored.

    ``why_synthetic``: what says that the values are synthetic, in words; empty where nothing does.
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    dtype: np.dtype[Any]
    place: VoxelsPlace
    why_synthetic: str
    notes: tuple[str, ...]

    @property
    def volumes(self) -> int:
        """How many volumes the fourth axis holds."""
        return self.shape[3] if len(self.shape) > 3 else 1


def read_itk(path: Path, options: ReadOptions | None = None) -> Volume:
    """Read a MetaImage or NRRD file; the array keeps the stored type, ``(I, J, K)``.

    Raises :class:`~medcyclegan.errors.ReadError` for a damaged file (compressed voxels are read to their
    checksum), several numbers a voxel, or header fields that ITK would pass over;
    :class:`~medcyclegan.errors.GeometryError` for a singular affine, and for axes that neither the header nor
    ``options.assume_axes`` names.
    """
    options = options or ReadOptions()
    facts = read_itk_facts(path, options, Notes(_log, path.name))
    synthetic = check_synthetic(facts.why_synthetic, options, str(path))
    stored = _read_voxels(path, facts.place, facts.shape, facts.dtype, options.volume)
    return Volume(stored, facts.affine, modality=facts.place.modality, notes=facts.notes, synthetic=synthetic)


def read_itk_facts(path: Path, options: ReadOptions, notes: Notes) -> ItkFacts:
    """Read the header alone, with the refusals of :func:`read_itk` that it allows."""
    nrrd = path.name.lower().endswith(".nrrd")
    place = read_nrrd_header(path, notes) if nrrd else read_metaimage_header(path, notes)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ReadError(f"{path}: its header cannot be read ({_reason(error)}): copy or export it again") from error
    if reader.GetPixelIDValue() not in _SCALARS:
        kind = sitk.GetPixelIDValueAsString(reader.GetPixelIDValue())
        raise ReadError(f"{path}: voxels of type {kind}: a volume holds one real number a voxel, save one component")
    shape = _checked_shape(path, reader, options.max_voxels)
    affine = _to_affine(path, reader, _directions(path, reader, place, options, notes), notes)
    why = why_synthetic(path, "Comment" if SYNTHETIC_MARK in place.comment else "")
    return ItkFacts(shape, affine, np.dtype(_SCALARS[reader.GetPixelIDValue()]), place, why, notes.sentences)


def _reason(error: RuntimeError) -> str:
    """The last line of an ITK exception, which is where it says why."""
    return str(error).strip().splitlines()[-1].strip()


def _checked_shape(path: Path, reader: sitk.ImageFileReader, max_voxels: int) -> tuple[int, ...]:
    shape = tuple(int(n) for n in reader.GetSize())
    times = " x ".join(str(n) for n in shape)
    if not 2 <= len(shape) <= 4 or min(shape) < 1:
        raise ReadError(f"{path}: an image of {times} voxels: a volume has 2 to 4 axes, none of them empty")
    if math.prod(shape) > max_voxels:
        raise ReadError(
            f"{path}: the header claims {times} = {math.prod(shape)} voxels, more than {max_voxels}: "
            f"if that is right, pass --max-voxels {math.prod(shape)}"
        )
    return shape


def _directions(
    path: Path, reader: sitk.ImageFileReader, place: VoxelsPlace, options: ReadOptions, notes: Notes
) -> NDArray[np.float64]:
    """Return the axes' directions in LPS+, 3 x 3: the header's, or those that the user states where it has none."""
    dimension = reader.GetDimension()
    axes = min(dimension, 3)
    directions = np.eye(3)
    directions[:axes, :axes] = np.array(reader.GetDirection()).reshape(dimension, dimension)[:axes, :axes]
    if not place.missing_axes:
        return directions
    if options.assume_axes is None:
        raise GeometryError(
            f"{path}: its header has no {place.missing_axes}, so it does not say which axis points where (left and "
            "right may be exchanged): repair the header, or pass --assume-axes LPS if its axes point to the left, "
            "posterior and superior, as ITK assumes"
        )
    notes.warn(f"its header has no {place.missing_axes}: the axes are taken as {options.assume_axes} (--assume-axes)")
    return _LPS[:3, :3] @ axis_directions(options.assume_axes)


def _to_affine(
    path: Path, reader: sitk.ImageFileReader, directions: NDArray[np.float64], notes: Notes
) -> NDArray[np.float64]:
    """Voxel to RAS+ mm from ITK's origin and spacing, and the axes' directions in LPS+; of 4 axes the first three."""
    dimension = reader.GetDimension()
    axes = min(dimension, 3)
    if not np.allclose(np.linalg.norm(directions, axis=0), 1, rtol=0, atol=1e-3):
        raise GeometryError(
            f"{path}: its direction cosines are not of length 1, so the spacing is uncertain: repair the header"
        )
    affine = np.eye(4)
    affine[:3, :3] = directions * [*reader.GetSpacing()[:axes], 1.0][:3]
    affine[:axes, 3] = np.array(reader.GetOrigin())[:axes]
    if dimension == 2:
        notes.warn("an image of two axes: taken as one axial slice, 1 mm thick, at z = 0")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise GeometryError(
            f"{path}: its spacing or direction is singular or not finite, so voxels have no place in space: "
            "repair the header"
        )
    return _LPS @ affine


def _read_voxels(
    path: Path, place: VoxelsPlace, shape: tuple[int, ...], dtype: np.dtype[Any], volume: int | None
) -> NDArray[Any]:
    i, j, k, count = (*shape, 1, 1)[:4]
    if volume is None and count > 1:
        raise AmbiguousError(f"{path}: a 4-D file of {count} volumes: choose one with --volume N, 0 to {count - 1}")
    chosen = volume or 0
    if chosen >= count:
        raise AmbiguousError(f"{path}: --volume {chosen}: the file holds {count}, counted from 0: choose one of these")
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


def write_itk(volume: Volume, path: Path) -> None:
    """Write a compressed ``.mha`` or ``.nrrd``, whole or not at all; types as :func:`find_stored_type` says.

    It is read back and compared, affine and every voxel, before it takes its name. Raises
    :class:`~medcyclegan.errors.WriteError`, also for a sheared affine: these formats' programs expect
    perpendicular axes.
    """
    check_itk(volume, path)
    with tempfile.TemporaryDirectory(prefix="medcyclegan-") as folder:
        scratch = Path(folder) / f"volume{path.suffix.lower()}"
        try:
            sitk.WriteImage(_to_image(volume), str(scratch), useCompression=True)
        except RuntimeError as error:
            raise WriteError(f"{path} cannot be written: {_reason(error)}") from error
        _check_written(volume, scratch, path)
        with scratch.open("rb") as content, atomic_write(path) as file:
            shutil.copyfileobj(content, file, 1 << 22)


def check_itk(volume: Volume, path: Path) -> None:
    """Refuse a sheared affine, which ``.mha`` and ``.nrrd`` do not hold.

    Raises :class:`~medcyclegan.errors.WriteError`.
    """
    if volume.shear_degrees > _LARGEST_SHEAR_DEGREES:
        raise WriteError(
            f"{path}: the volume's axes are {volume.shear_degrees:.3g} degrees from perpendicular (a tilted gantry), "
            "which this format does not hold: name a .nii.gz file, or read with --resample-tilt"
        )


def _to_image(volume: Volume) -> sitk.Image:
    dtype = find_stored_type(volume)
    stored = np.empty(volume.shape, dtype, order="F")
    for target, slab in zip(slabs(stored), slabs(volume.array), strict=True):
        target[...] = to_stored(slab, dtype)
    image = sitk.GetImageFromArray(stored.T)
    affine = _LPS @ volume.affine
    spacing = np.array(volume.spacing_mm)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    if volume.is_synthetic:
        image.SetMetaData("Comment", SYNTHETIC_MARK)
    return image


def _check_written(volume: Volume, scratch: Path, path: Path) -> None:
    try:
        back = read_itk(scratch, ReadOptions(max_voxels=volume.array.size))
    except VolumeError as error:
        raise WriteError(f"{path}: read back before it got its name, {error}") from error
    moved = not np.allclose(back.affine, volume.affine, rtol=1e-9, atol=1e-9)
    if back.shape != volume.shape or moved or back.synthetic != volume.is_synthetic:
        raise WriteError(f"{path}: read back, its header is not the volume's: this is a fault, report it")
    differing = sum(count_differing(b, a) for b, a in zip(slabs(back.array), slabs(volume.array), strict=True))
    if differing:
        raise WriteError(f"{path}: read back, {differing} voxels differ: the disk or memory is faulty, try another")
