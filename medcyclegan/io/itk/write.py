"""Write MetaImage (.mha) and NRRD (.nrrd) files with SimpleITK."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the field's name for it

from medcyclegan.errors import VolumeError, WriteError
from medcyclegan.io.itk.read import last_line, read_itk
from medcyclegan.io.options import ReadOptions
from medcyclegan.io.stored import count_differing, find_stored_type, slabs, to_stored
from medcyclegan.io.synthetic import SYNTHETIC_MARK
from medcyclegan.storage import atomic_write
from medcyclegan.volume import LPS_RAS, Volume

__all__ = ["check_itk", "write_itk"]

_LARGEST_SHEAR_DEGREES = 1e-3


def write_itk(volume: Volume, path: Path) -> None:
    """Write a complete compressed ``.mha`` or ``.nrrd``, or nothing; types as in :func:`find_stored_type`.

    The file is read back and compared, affine and every voxel, before it gets its name. Raises
    :class:`~medcyclegan.errors.WriteError`, also for a sheared affine: programs for these formats
    expect perpendicular axes.
    """
    check_itk(volume, path)
    with tempfile.TemporaryDirectory(prefix="medcyclegan-") as folder:
        scratch = Path(folder) / f"volume{path.suffix.lower()}"
        try:
            sitk.WriteImage(_to_image(volume), str(scratch), useCompression=True)
        except RuntimeError as error:
            raise WriteError(f"{path} cannot be written: {last_line(error)}") from error
        _check_written(volume, scratch, path)
        with scratch.open("rb") as content, atomic_write(path) as file:
            shutil.copyfileobj(content, file, 1 << 22)


def check_itk(volume: Volume, path: Path) -> None:
    """Refuse a sheared affine, which ``.mha`` and ``.nrrd`` cannot store.

    Raises :class:`~medcyclegan.errors.WriteError`.
    """
    if volume.shear_degrees > _LARGEST_SHEAR_DEGREES:
        raise WriteError(
            f"{path}: the volume's axes are {volume.shear_degrees:.3g} degrees from perpendicular (a tilted gantry), "
            "which this format cannot store",
            remedy="name a .nii.gz file, or read with --resample-tilt",
        )


def _to_image(volume: Volume) -> sitk.Image:
    dtype = find_stored_type(volume)
    stored = np.empty(volume.shape, dtype, order="F")
    for target, slab in zip(slabs(stored), slabs(volume.array), strict=True):
        target[...] = to_stored(slab, dtype)
    image = sitk.GetImageFromArray(stored.T)
    affine = LPS_RAS @ volume.affine
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
        raise WriteError.from_error(f"{path}: read back before it got its name, ", error) from error
    moved = not np.allclose(back.affine, volume.affine, rtol=1e-9, atol=1e-9)
    if back.shape != volume.shape or moved or back.synthetic != volume.is_synthetic:
        raise WriteError(f"{path}: read back, its header is not the volume's", remedy="this is a fault, report it")
    differing = sum(count_differing(b, a) for b, a in zip(slabs(back.array), slabs(volume.array), strict=True))
    if differing:
        raise WriteError(
            f"{path}: read back, {differing} voxels differ", remedy="the disk or memory is faulty, try another"
        )
