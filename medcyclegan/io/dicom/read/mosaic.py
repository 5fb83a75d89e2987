"""Tiled images: many slices in one 2-D image, as Siemens (MOSAIC) and UIH (VFRAME) write them.

Both store the geometry of the tiles in private elements. A tiled image is split only if these state consistently the
number, the size and the position of the tiles; otherwise it is refused.
"""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from medcyclegan.errors import GeometryError
from medcyclegan.io.dicom.geometry import plane_axes
from medcyclegan.io.dicom.read.frames import Frame
from medcyclegan.io.dicom.values import PARSE_ERRORS, quiet, short_reason, texts, vector

__all__ = ["is_mosaic", "mosaic_frames"]

_CONVERT = "convert the series first, for example with dcm2niix"
#: The largest difference between the two positions that the header states for a tile.
_AGREE_MM = 0.05
_UIH_CREATOR, _UIH_COUNT, _UIH_TILES, _UIH_MATRIX = "Image Private Header", 0x50, 0x51, 0x04
_SIEMENS_CREATOR, _SIEMENS_IMAGE, _SIEMENS_SERIES = "SIEMENS CSA HEADER", 0x10, 0x20


def is_mosaic(dataset: Dataset) -> bool:
    """Whether the image is a set of tiles, each a slice."""
    kind = texts(dataset, "ImageType")
    return "MOSAIC" in kind or "VFRAME" in kind


def mosaic_frames(dataset: Dataset, whole: Frame) -> list[Frame]:
    """Return the tiles of an image as frames.

    Raises :class:`~medcyclegan.errors.GeometryError` if anything about them is uncertain.
    """
    with quiet():
        try:
            if "VFRAME" in texts(dataset, "ImageType"):
                return _uih_frames(dataset, whole)
            return _siemens_frames(dataset, whole)
        except PARSE_ERRORS as error:
            raise GeometryError(
                f"a tiled image whose private header does not parse ({short_reason(error)})", remedy=f"{_CONVERT}"
            ) from error


def _uih_frames(dataset: Dataset, whole: Frame) -> list[Frame]:
    block = dataset.private_block(0x0065, _UIH_CREATOR)
    tiles = list(block[_UIH_TILES].value)
    count = float(block[_UIH_COUNT].value)
    if count != len(tiles):
        raise GeometryError(f"a tiled image of {count:g} tiles with places for {len(tiles)}", remedy=f"{_CONVERT}")
    across = math.ceil(math.sqrt(len(tiles)))
    down = math.ceil(len(tiles) / across)
    rows, columns = _tile_size(whole, down, across)
    matrix = re.fullmatch(r"(\d+)\s*[*x]\s*(\d+)", str(block[_UIH_MATRIX].value).strip())
    if matrix is None or (int(matrix[1]), int(matrix[2])) != (rows, columns):
        raise GeometryError(
            f"a tiled image whose tiles of {rows} x {columns} are not the acquired matrix", remedy=f"{_CONVERT}"
        )
    frames = []
    for number, tile in enumerate(tiles):
        place = (number // across * rows, number % across * columns, rows, columns)
        position = vector(tile, "ImagePositionPatient", 3)
        if not position:
            raise GeometryError("a tiled image with a tile that has no position", remedy=f"{_CONVERT}")
        frames.append(dataclasses.replace(whole, position=position, tile=place))
    return frames


def _siemens_frames(dataset: Dataset, whole: Frame) -> list[Frame]:
    block = dataset.private_block(0x0029, _SIEMENS_CREATOR)
    tags = _csa_tags(block[_SIEMENS_IMAGE].value)
    count = int(tags["NumberOfImagesInMosaic"]["items"][0])
    across = math.ceil(math.sqrt(count))
    rows, columns = _tile_size(whole, across, across)
    if whole.slice_spacing is None or not whole.position or not whole.orientation or not whole.pixel_spacing:
        raise GeometryError("a mosaic without SpacingBetweenSlices or without a position", remedy=f"{_CONVERT}")
    normal = np.array([float(value) for value in tags["SliceNormalVector"]["items"][:3]])
    along_row, along_column, expected = plane_axes(whole.orientation)
    if normal.shape != (3,) or abs(abs(normal @ expected) - 1) > 1e-4:
        raise GeometryError("a mosaic whose SliceNormalVector is not normal to its slices", remedy=f"{_CONVERT}")
    # the stated position is the corner of a slice as large as the whole mosaic, around the same center
    half_rows, half_columns = (whole.rows - rows) / 2, (whole.columns - columns) / 2
    row_mm, column_mm = whole.pixel_spacing
    corner = np.array(whole.position) + along_row * column_mm * half_columns + along_column * row_mm * half_rows
    centre = corner + along_row * column_mm * columns / 2 + along_column * row_mm * rows / 2
    step = normal * whole.slice_spacing
    protocol = _csa_tags(block[_SIEMENS_SERIES].value)["MrPhoenixProtocol"]["items"][0]
    _check_with_protocol(str(protocol), centre + np.arange(count)[:, None] * step)
    frames = []
    for number in range(count):
        place = (number // across * rows, number % across * columns, rows, columns)
        position = tuple(float(value) for value in corner + number * step)
        frames.append(dataclasses.replace(whole, position=position, tile=place))
    return frames


def _csa_tags(value: bytes) -> dict[str, Any]:
    """Return the tags of a Siemens CSA header."""
    from nibabel.nicom import csareader

    try:
        return csareader.read(value)["tags"]
    except csareader.CSAReadError as error:
        raise ValueError(error) from error


def _check_with_protocol(protocol: str, centres: np.ndarray) -> None:
    """Refuse unless the slices of the protocol are at the positions of the tiles, in their order or reversed."""
    found = np.zeros_like(centres)
    axes = {"dSag": 0, "dCor": 1, "dTra": 2}
    pattern = r"sSliceArray\.asSlice\[(\d+)\]\.sPosition\.(dSag|dCor|dTra)\s*=\s*(-?[\d.]+(?:e[+-]?\d+)?)"
    seen = set()
    for slice_number, axis, value in re.findall(pattern, protocol):
        if int(slice_number) < len(found):
            found[int(slice_number), axes[axis]] = float(value)
            seen.add(int(slice_number))
    apart = min(np.abs(found - centres).max(), np.abs(found[::-1] - centres).max())
    if not seen or apart > _AGREE_MM:
        raise GeometryError("a mosaic whose slices are not at the positions of its protocol", remedy=f"{_CONVERT}")


def _tile_size(whole: Frame, down: int, across: int) -> tuple[int, int]:
    rows, columns = divmod(whole.rows, down), divmod(whole.columns, across)
    if rows[1] or columns[1] or not rows[0] or not columns[0]:
        raise GeometryError(
            f"a tiled image of {whole.rows} x {whole.columns} does not divide into {down} x {across}",
            remedy=f"{_CONVERT}",
        )
    return rows[0], columns[0]
