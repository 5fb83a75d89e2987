"""Read PNG and JPEG pictures as volumes of one slice, and write such volumes."""

from __future__ import annotations

import io
import logging
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from medcyclegan.errors import AmbiguousError, ReadError, WriteError
from medcyclegan.io.header import VolumeHeader
from medcyclegan.io.notes import Notes
from medcyclegan.io.options import ReadOptions
from medcyclegan.io.streams import read_start
from medcyclegan.io.synthetic import SYNTHETIC_MARK, check_synthetic, why_synthetic
from medcyclegan.storage import atomic_write
from medcyclegan.volume import LPS_RAS, Volume

__all__ = ["IMAGE_AFFINE", "check_image", "read_image", "read_image_header", "write_image"]

_log = logging.getLogger(__name__)

#: A picture is taken as an axial slice: i to the patient's left, j to posterior, pixels of 1 mm.
IMAGE_AFFINE = LPS_RAS
_FORMATS = ("PNG", "JPEG")
#: Errors that Pillow raises for damaged files, found in its plugins' sources and by mutating bytes.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, TypeError, struct.error, zlib.error)
_JPEG_QUALITY = 95
#: Bits per pixel -> range of values.
_RANGES = {8: (0.0, 255.0), 16: (0.0, 65535.0)}


def read_image(path: Path, options: ReadOptions | None = None) -> Volume:
    """Read a PNG (8 or 16 bits) or JPEG as a volume ``(columns, rows, 1)`` with pixels of 1 mm.

    ``value_range`` follows from the bit depth: (0, 255) or (0, 65535). Color becomes luminance (ITU-R
    601), with a warning if that loses information; an EXIF orientation is applied. Raises
    :class:`~medcyclegan.errors.ReadError` for damaged and animated files and for 16-bit color.
    """
    options = options or ReadOptions()
    notes = Notes(_log, path.name)
    if options.volume:
        raise AmbiguousError(
            f"{path}: --volume {options.volume}: a picture is one volume", remedy="leave the option out"
        )
    start = read_start(path, 26)
    if start.startswith(b"\x89PNG") and len(start) == 26 and start[24] == 16 and start[25] != 0:
        raise ReadError(f"{path}: a PNG of 16-bit color or transparency", remedy="save it as 16-bit grayscale")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        synthetic = check_synthetic(why_synthetic_image(path), options, str(path))
        values = _decode(path, options.max_voxels, notes)
    for text in dict.fromkeys(str(w.message) for w in caught if w.category is not Image.DecompressionBombWarning):
        notes.warn(f"Pillow warns: {text}")
    highest = float(np.iinfo(values.dtype).max)
    grid = values.T[..., None]
    return Volume(grid, IMAGE_AFFINE, value_range=(0.0, highest), notes=notes.sentences, synthetic=synthetic)


def read_image_header(path: Path, options: ReadOptions | None = None) -> VolumeHeader:
    """Read the size of a PNG or JPEG without its pixels; raises as :func:`read_image` does."""
    options = options or ReadOptions()
    try:
        with Image.open(path, formats=_FORMATS) as image:
            _check_size(path, image, options.max_voxels)
            shape, wide = (image.width, image.height), image.mode.startswith("I")
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        raise ReadError(f"{path}: not a PNG or JPEG picture ({error})", remedy="copy or export it again") from error
    dtype = np.dtype(np.uint16 if wide else np.uint8)
    return VolumeHeader(shape, dtype, IMAGE_AFFINE, why_synthetic=why_synthetic_image(path))


def why_synthetic_image(path: Path) -> str:
    """Return what marks a picture as synthetic, its comment or its sidecar; else empty."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            comment = image.info.get("Comment", image.info.get("comment", ""))
    except (*_DAMAGE, Image.DecompressionBombError):  # reported when the file is decoded
        comment = ""
    text = comment.decode("latin-1") if isinstance(comment, bytes) else str(comment)
    return why_synthetic(path, "comment" if SYNTHETIC_MARK in text else "")


def _decode(path: Path, max_voxels: int, notes: Notes) -> NDArray[Any]:
    """Return the pixels ``(rows, columns)``, after a check of the size."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            _check_size(path, image, max_voxels)
            image.verify()  # a PNG's checksums, which load() does not verify
        with Image.open(path, formats=_FORMATS) as image:
            image.load()
            return _to_grey(image, notes)
    except Image.DecompressionBombError as error:
        raise ReadError(f"{path}: {error}", remedy="cut the picture into smaller ones") from error
    except _DAMAGE as error:
        raise ReadError(
            f"{path}: not a PNG or JPEG picture, or a damaged one ({error})", remedy="copy or export it again"
        ) from error


def _check_size(path: Path, image: Image.Image, max_voxels: int) -> None:
    if image.width * image.height > max_voxels:
        raise ReadError(
            f"{path}: {image.width} x {image.height} pixels, more than {max_voxels}",
            remedy=f"if that is right, pass --max-voxels {image.width * image.height}",
        )
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise ReadError(f"{path}: {frames} pictures in one file (animated)", remedy="save the one that is meant")


def _to_grey(image: Image.Image, notes: Notes) -> NDArray[Any]:
    """Return the pixels ``(rows, columns)``, uint8 or uint16, in display orientation."""
    turned = ImageOps.exif_transpose(image)
    if image.getexif().get(0x0112, 1) != 1:
        notes.info("its EXIF orientation was applied: rows and columns are those on the screen")
    if turned.mode.startswith("I"):
        return np.asarray(turned).astype(np.uint16)
    if turned.mode in ("L", "1"):
        return np.array(turned.convert("L"))
    if turned.mode in ("LA", "RGBA", "PA") or "transparency" in turned.info:
        opacity = np.asarray(turned.convert("RGBA"))[..., 3]
        if (opacity < 255).any():
            notes.warn("its transparency was dropped")
    colours = np.asarray(turned.convert("RGB"))
    if (colours == colours[..., :1]).all():
        notes.info(f"gray stored as color ({turned.mode}): read without loss")
        return colours[..., 0].copy()
    notes.warn(f"a color picture ({turned.mode}): converted to luminance")
    return np.array(turned.convert("RGB").convert("L"))


def write_image(volume: Volume, path: Path) -> None:
    """Write a one-slice volume that came from a picture as ``.png`` or ``.jpg``, complete or not at all.

    Values are rounded half to even and clipped to ``value_range``; a PNG keeps its 8 or 16 bits and is
    decoded and compared before it is written. The picture's comment marks a synthetic volume. Raises
    :class:`~medcyclegan.errors.WriteError` for a volume that a picture cannot store.
    """
    check_image(volume, path)
    if not np.isfinite(volume.array).all():
        raise WriteError(f"{path}: the slice has values that are not finite", remedy="replace them or find their cause")
    wide = volume.value_range == _RANGES[16]
    limits = np.clip(np.rint(volume.array[..., 0].T), *_RANGES[16 if wide else 8])
    values = np.ascontiguousarray(limits.astype(np.uint16 if wide else np.uint8))
    content = io.BytesIO()
    mark = SYNTHETIC_MARK if volume.is_synthetic else ""
    if path.suffix.lower() == ".png":
        texts = PngInfo()
        if mark:
            texts.add_text("Comment", mark)
        Image.fromarray(values).save(content, "PNG", pnginfo=texts)
        with Image.open(io.BytesIO(content.getvalue())) as back:
            if not np.array_equal(np.asarray(back), values):
                raise WriteError(f"{path}: decoded, the PNG is not the slice", remedy="this is a fault, report it")
    else:
        Image.fromarray(values).save(content, "JPEG", quality=_JPEG_QUALITY, comment=mark.encode())
    with atomic_write(path) as file:
        file.write(content.getbuffer())


def check_image(volume: Volume, path: Path) -> None:
    """Refuse a volume that a picture cannot store, by everything but its values.

    Raises :class:`~medcyclegan.errors.WriteError`.
    """
    if volume.value_range not in _RANGES.values() or volume.shape[2] != 1:
        raise WriteError(
            f"{path}: a picture stores one slice that was read from a picture", remedy="name a .nii.gz file"
        )
    if not np.array_equal(volume.affine, IMAGE_AFFINE):
        raise WriteError(f"{path}: a picture cannot store the volume's position in space", remedy="name a .nii.gz file")
    if volume.value_range == _RANGES[16] and path.suffix.lower() != ".png":
        raise WriteError(f"{path}: a JPEG stores 8 bits and the slice has 16", remedy="name a .png file")
