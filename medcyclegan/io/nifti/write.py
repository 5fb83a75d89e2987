"""Write NIfTI files with the header fields of the input, and read them back before they get their name."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medcyclegan.errors import VolumeError, WriteError
from medcyclegan.io.nifti.affine import SAME_PLACE_VOXELS, corner_distance, find_affine
from medcyclegan.io.nifti.header import read_layout
from medcyclegan.io.nifti.read import NiftiSource
from medcyclegan.io.notes import Notes
from medcyclegan.io.stored import count_differing, find_stored_type, slabs, to_stored
from medcyclegan.io.streams import ByteStream, GrowingFile, open_gzip_writer, stream_of
from medcyclegan.io.synthetic import SYNTHETIC_MARK
from medcyclegan.storage import atomic_write
from medcyclegan.volume import Volume

__all__ = ["write_nifti"]

_DESCRIPTION = "medcyclegan"
#: The longest axis that a NIfTI-1 header can store.
_LONGEST_NIFTI1 = 32767


def write_nifti(volume: Volume, path: Path) -> None:
    """Write ``path`` (``.nii``, or ``.nii.gz``: then gzipped), complete or not at all.

    A volume that was read from NIfTI keeps that header's fields: shape, sform and qform with their codes, pixdim,
    units. Others get sform and qform with code 1 (scanner) in mm; a shear can only be stored in the sform; the qform's
    code is then 0. A CT is stored as int16, rounded half to even, with slope 1; everything else as float32 (whole
    numbers beyond 2^24 as float64). Nothing in the header identifies a patient; ``descrip`` marks a synthetic volume.

    Before the file gets its name it is read back and compared: header, affine and every voxel. Raises
    :class:`~medcyclegan.errors.WriteError`, also for voxels that the type cannot represent.
    """
    dtype = find_stored_type(volume)
    header = _build_header(volume, dtype)
    with atomic_write(path) as file:
        if path.name.lower().endswith(".gz"):
            _write_packed(file, volume, header, dtype, path)
        else:
            _write_content(file, volume, header, dtype)
            file.flush()
            _check_content(stream_of(file, str(path)), volume, header, dtype, path)


def _write_packed(file: BinaryIO, volume: Volume, header: Any, dtype: np.dtype[Any], path: Path) -> None:
    """Compress the volume into the temporary file, and read it back and compare it meanwhile, up to its checksum."""
    growing = GrowingFile(file.fileno())
    with ThreadPoolExecutor(1) as pool:
        try:
            stream = ByteStream(cast(BinaryIO, growing), str(path), "gzip", size=volume.array.nbytes)
            check = pool.submit(_check_content, stream, volume, header, dtype, path)
            with open_gzip_writer(file) as packed:
                _write_content(packed, volume, header, dtype)
            file.flush()
        finally:
            growing.complete()  # also ends the check if writing failed
        check.result()


def _build_header(volume: Volume, dtype: np.dtype[Any]) -> Any:
    source = volume.source
    header = _header_from_source(volume, source) if isinstance(source, NiftiSource) else _new_header(volume)
    header.set_data_dtype(dtype)
    header["scl_slope"], header["scl_inter"] = 1.0, 0.0
    header["cal_min"], header["cal_max"] = 0.0, 0.0  # the input's display window, in the input's units
    header["vox_offset"] = header.single_vox_offset
    header["magic"] = header.single_magic
    header["descrip"] = (SYNTHETIC_MARK if volume.is_synthetic else _DESCRIPTION).encode()
    return header


def _header_from_source(volume: Volume, source: NiftiSource) -> Any:
    header = source.header.copy()
    dims = [int(n) for n in header["dim"]]
    grid = (*dims[1 : dims[0] + 1], 1, 1)[:3]
    if grid != volume.shape or not np.array_equal(source.affine, volume.affine):
        raise WriteError(
            f"a volume of shape {volume.shape} with the header of {grid} voxels, or with another affine than it was "
            "read with",
            remedy="drop that header first, volume.replace(source=None)",
        )
    return header


def _new_header(volume: Volume) -> Any:
    header_class = nib.Nifti1Header if max(volume.shape) <= _LONGEST_NIFTI1 else nib.Nifti2Header
    header = header_class(endianness="<")
    header.set_data_shape(volume.shape)
    header.set_xyzt_units("mm")
    header.set_sform(volume.affine, 1)
    header.set_qform(volume.affine, 1, strip_shears=True)
    if corner_distance(volume.affine, header.get_qform(), volume.shape) > SAME_PLACE_VOXELS:
        header["qform_code"] = 0
    return header


def _write_content(file: BinaryIO, volume: Volume, header: Any, dtype: np.dtype[Any]) -> None:
    file.write(header.binaryblock)
    file.write(bytes(4))  # no extensions
    for slab in slabs(volume.array):
        file.write(to_stored(slab, dtype).reshape(-1, order="F").view(np.uint8).data)


def _check_content(stream: ByteStream, volume: Volume, header: Any, dtype: np.dtype[Any], path: Path) -> None:
    """Read the temporary file back and compare it with the volume, voxel by voxel."""
    silent = Notes(None, path.name)
    try:
        layout = read_layout(stream, volume.array.size, silent)
        # a header without geometry was read with the axes that the user stated
        affine = find_affine(stream.name, layout, silent, volume.orientation)
        stream.skip(layout.offset - int(header["sizeof_hdr"]), "the voxels")
        differing = sum(count_differing(_read_slab(stream, slab.shape, dtype), slab) for slab in slabs(volume.array))
        stream.finish()
    except VolumeError as error:
        raise WriteError.from_error("read back before it got its name, ", error) from error
    # float32 stores 24 bits of each element; values that were read from float32 are restored exactly
    rounded = np.abs(affine - volume.affine) <= np.abs(volume.affine) * 2.0**-23 + 1e-30
    if layout.header.binaryblock != header.binaryblock or layout.grid != volume.shape or not rounded.all():
        raise WriteError(
            f"{path}: read back, its header or affine is not the volume's", remedy="this is a fault, report it"
        )
    if differing:
        raise WriteError(
            f"{path}: read back, {differing} voxels differ", remedy="the disk or memory is faulty, try another"
        )


def _read_slab(stream: ByteStream, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    stored = np.empty(shape, dtype, order="F")
    stream.read_into(stored.reshape(-1, order="F").view(np.uint8).data, "the voxels")
    return stored
