"""Synthetic mosaics of Siemens and UIH: all slices of a volume as tiles of one DICOM image."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from support import dicom_phantoms as made
from support import phantoms
from support.phantoms import LPS_RAS

from medcyclegan.volume import Volume

AFFINE = phantoms.make_affine("LPS", (1.5, 1.25, 3.0), origin=(8.0, 7.0, -9.0), rotation_degrees=(5, -8, 12))
VOLUME = made.placed_volume((10, 12, 7), AFFINE, "MR")


def csa_header(tags: dict[str, Sequence[str]]) -> bytes:
    """Return a header in Siemens' CSA2 format: named lists of texts."""
    parts = [b"SV10\4\3\2\1", struct.pack("<2I", len(tags), 77)]
    for name, values in tags.items():
        parts.append(
            struct.pack(
                "<64si4s3i",
                name.encode(),
                len(values),
                b"FD\0\0" if name == "SliceNormalVector" else b"UN\0\0",
                4,
                len(values),
                77,
            )
        )
        for value in values:
            text = value.encode() + b"\0"
            parts.append(struct.pack("<4i", len(text), len(text), 77, len(text)) + text + bytes(-len(text) % 4))
    return b"".join(parts)


def tiled(volume: Volume, across: int, down: int) -> Dataset:
    """Return a data set with the slices of a volume as ``across`` x ``down`` tiles of one image."""
    columns, rows, slices = volume.shape
    dataset = made.slices_of(volume, intercept=-4096.0)[0]
    canvas = np.zeros((rows * down, columns * across), np.uint16)
    for k in range(slices):
        row, column = k // across * rows, k % across * columns
        canvas[row : row + rows, column : column + columns] = volume.array[:, :, k].T.astype(np.int32) + 4096
    dataset.Rows, dataset.Columns, dataset.PixelData = *canvas.shape, canvas.tobytes()
    return dataset


def siemens(volume: Volume = VOLUME, *, reverse: bool = False) -> Dataset:
    """Return a mosaic of Siemens; ``reverse``: the protocol lists the slices in reverse order."""
    across = 3
    dataset = tiled(volume, across, across)
    columns, rows, slices = volume.shape
    # The position of a slice as large as the mosaic, with the same center.
    corner = (LPS_RAS @ volume.affine @ (-(columns * (across - 1)) / 2, -(rows * (across - 1)) / 2, 0, 1))[:3]
    dataset.ImagePositionPatient = [f"{value:.9f}" for value in corner]
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    dataset.SpacingBetweenSlices = volume.spacing_mm[2]
    normal = (LPS_RAS @ volume.affine)[:3, 2] / volume.spacing_mm[2]
    tags = {"NumberOfImagesInMosaic": [str(slices)], "SliceNormalVector": [f"{value:.8f}" for value in normal]}
    lines = []
    for number, k in enumerate(reversed(range(slices)) if reverse else range(slices)):
        centre = (LPS_RAS @ volume.affine @ (columns / 2, rows / 2, k, 1))[:3]
        for name, value in zip(("dSag", "dCor", "dTra"), centre, strict=True):
            lines.append(f"sSliceArray.asSlice[{number}].sPosition.{name}\t = \t{value:.9f}")
    block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x10, "OB", csa_header(tags))
    block.add_new(0x20, "OB", csa_header({"MrPhoenixProtocol": ["\n".join(lines)]}))
    return dataset


def uih(volume: Volume = VOLUME) -> Dataset:
    """Return a mosaic of United Imaging, with the position of each tile."""
    dataset = tiled(volume, 3, 3)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "VFRAME"]
    del dataset.ImagePositionPatient
    tiles = []
    for each in made.slices_of(volume, intercept=-4096.0):
        tile = Dataset()
        tile.ImagePositionPatient = each.ImagePositionPatient
        tiles.append(tile)
    block = dataset.private_block(0x0065, "Image Private Header", create=True)
    block.add_new(0x04, "SH", f"{volume.shape[1]}*{volume.shape[0]}")
    block.add_new(0x50, "DS", str(volume.shape[2]))
    block.add_new(0x51, "SQ", Items(tiles))
    return dataset
