"""Read NIfTI files in one pass with one copy in memory, and verify checksums and sizes."""

from __future__ import annotations

import dataclasses
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medcyclegan.errors import AmbiguousError, ReadError
from medcyclegan.io.header import VolumeHeader
from medcyclegan.io.nifti.affine import find_affine
from medcyclegan.io.nifti.header import NiftiLayout, read_layout
from medcyclegan.io.notes import Notes
from medcyclegan.io.options import ReadOptions
from medcyclegan.io.sidecar import read_sidecar
from medcyclegan.io.streams import ByteStream, open_bytes
from medcyclegan.io.synthetic import SYNTHETIC_MARK, check_synthetic, why_synthetic
from medcyclegan.volume import Volume

__all__ = ["NiftiSource", "read_nifti", "read_nifti_header"]

_log = logging.getLogger(__name__)

#: Text fields in which names, dates and paths have been found.
_TEXT_FIELDS = ("descrip", "aux_file", "intent_name", "data_type", "db_name")


@dataclasses.dataclass(frozen=True, eq=False)
class NiftiSource:
    """The header of the input for one 3-D volume, for writing a matching output, and its affine.

    ``header`` is nibabel's, little-endian, without free text and without extensions, so that nothing in
    it can identify a patient; ``affine`` is that of the volume as read, in mm.
    """

    header: Any
    affine: NDArray[np.float64]


def read_nifti(path: Path, options: ReadOptions | None = None) -> Volume:
    """Read a NIfTI-1 or NIfTI-2 file, gzipped or not.

    The array keeps the stored type if the header has no scaling; else it is computed in float64
    and kept as float32 (float64 for stored types of more than 16 bits other than float32). For a 4-D file
    ``options.volume`` selects the volume; the others are skipped, not kept in memory.

    Raises :class:`~medcyclegan.errors.ReadError` for a damaged file (a gzip is read to its checksum) or a type that is
    not one real number, :class:`~medcyclegan.errors.GeometryError` for an uncertain geometry,
    :class:`~medcyclegan.errors.AmbiguousError` for a 4-D file without a choice.
    """
    options = options or ReadOptions()
    notes = Notes(_log, path.name)
    with open_bytes(path) as stream:
        layout = read_layout(stream, options.max_voxels, notes)
        affine = find_affine(stream.name, layout, notes, options.assume_axes)
        synthetic = check_synthetic(_why_synthetic(path, layout), options, stream.name)
        stored = _read_volume(stream, layout, _choose_volume(stream.name, layout, options.volume))
    _note_name(path, gzipped=stream.packing == "gzip", notes=notes)
    return Volume(
        scale_stored(stored, layout),
        affine,
        modality=_sidecar_modality(path, notes),
        source=NiftiSource(_output_header(layout), affine),
        notes=notes.sentences,
        synthetic=synthetic,
    )


def read_nifti_header(path: Path, options: ReadOptions | None = None) -> VolumeHeader:
    """Read the header alone, with the errors of :func:`read_nifti` that do not concern voxels."""
    options = options or ReadOptions()
    notes = Notes(_log, path.name)
    with open_bytes(path) as stream:
        layout = read_layout(stream, options.max_voxels, notes)
        affine = find_affine(stream.name, layout, notes, options.assume_axes)
    modality = _sidecar_modality(path, notes)
    dtype = layout.stored_type.newbyteorder("=")
    why = _why_synthetic(path, layout)
    return VolumeHeader(layout.shape, dtype, affine, modality, why, notes.sentences)


def _why_synthetic(path: Path, layout: NiftiLayout) -> str:
    marked = SYNTHETIC_MARK.encode() in layout.header["descrip"].tobytes()
    return why_synthetic(path, "descrip" if marked else "")


def _choose_volume(name: str, layout: NiftiLayout, volume: int | None) -> int:
    count = layout.volumes
    if volume is not None and volume >= count:
        held = "1 volume, number 0" if count == 1 else f"{count} volumes, 0 to {count - 1}"
        raise AmbiguousError(f"{name}: --volume {volume}: the file has {held}", remedy="choose one of these")
    if volume is None and count > 1:
        grid = " x ".join(str(n) for n in layout.grid)
        raise AmbiguousError(
            f"{name}: a 4-D file of {count} volumes of {grid} voxels",
            remedy=f"choose one with --volume N, 0 to {count - 1}",
        )
    return volume or 0


def _read_volume(stream: ByteStream, layout: NiftiLayout, volume: int) -> NDArray[Any]:
    """Return the stored values of one volume, ``(I, J, K)``, in the machine's byte order."""
    header_size = int(layout.header["sizeof_hdr"])
    stream.skip(layout.offset - header_size + volume * layout.volume_bytes, "the voxels")
    stored = allocate(stream.name, layout.grid, layout.stored_type)
    stream.read_into(stored.reshape(-1, order="F").view(np.uint8).data, "the voxels")
    stream.skip((layout.volumes - volume - 1) * layout.volume_bytes, "the last volume")
    stream.finish()
    if not layout.stored_type.isnative:
        stored = stored.byteswap(inplace=True).view(layout.stored_type.newbyteorder("="))
    return stored


def allocate(name: str, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an empty array, first axis fastest. Raises ReadError if there is not enough memory."""
    try:
        return np.empty(shape, dtype, order="F")
    except MemoryError as error:
        size = float(np.prod(shape, dtype=np.float64)) * dtype.itemsize / 2**30
        raise ReadError(
            f"{name}: its voxels need {size:.1f} GiB, more than is free", remedy="use a machine with more memory"
        ) from error


def scale_stored(stored: NDArray[Any], layout: NiftiLayout) -> NDArray[Any]:
    """Return stored value x slope + intercept, ``(I, J, K)``, computed in float64 slice by slice."""
    if (layout.slope, layout.intercept) == (1.0, 0.0):
        return stored
    narrow = stored.dtype == np.float32 or stored.dtype.itemsize <= 2
    scaled = np.empty(stored.shape, np.float32 if narrow else np.float64, order="F")
    with np.errstate(over="ignore", invalid="ignore"):  # values that overflow become infinite and are refused later
        for k in range(stored.shape[2]):
            scaled[..., k] = stored[..., k].astype(np.float64) * layout.slope + layout.intercept
    return scaled


def _output_header(layout: NiftiLayout) -> Any:
    """Return the header of one volume: as stored, without the time axis, free text and display window."""
    header = layout.header.as_byteswapped("<")
    if layout.volumes > 1:
        header["dim"] = [3, *layout.grid, 1, 1, 1, 1]
        header["pixdim"][4:] = 1
    for field in _TEXT_FIELDS:
        if field in header.keys():  # noqa: SIM118 - nibabel's headers iterate otherwise
            header[field] = b""
    return header


def _note_name(path: Path, *, gzipped: bool, notes: Notes) -> None:
    if gzipped != path.name.lower().endswith(".gz"):
        notes.info("gzipped, unlike its name" if gzipped else "not gzipped, unlike its name")


def _sidecar_modality(path: Path, notes: Notes) -> str | None:
    """Return the Modality of a BIDS sidecar, ``NAME.json`` next to ``NAME.nii.gz``; None if it has none."""
    content = read_sidecar(path)
    if content is None:
        notes.warn("its JSON sidecar cannot be read and is ignored")
        return None
    modality = content.get("Modality")
    return modality if isinstance(modality, str) and re.fullmatch(r"[A-Z]{2,16}", modality) else None
