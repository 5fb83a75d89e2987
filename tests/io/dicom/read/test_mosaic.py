"""Tiled images of Siemens and UIH: taken apart where both accounts of the header agree, else refused."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from support import dicom_phantoms as made
from support import phantoms

from medcyclegan.errors import ReadError
from medcyclegan.io import read_volume
from medcyclegan.volume import Volume

AFFINE = phantoms.make_affine("LPS", (1.5, 1.25, 3.0), origin=(8.0, 7.0, -9.0), rotation_degrees=(5, -8, 12))
VOLUME = made.placed_volume((10, 12, 7), AFFINE, "MR")


def csa_header(tags: dict[str, Sequence[str]]) -> bytes:
    """Siemens' CSA2 format: named lists of texts."""
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
    """Put the slices of a volume side by side into one data set."""
    columns, rows, slices = volume.shape
    dataset = made.slices_of(volume, intercept=-4096.0)[0]
    canvas = np.zeros((rows * down, columns * across), np.uint16)
    for k in range(slices):
        row, column = k // across * rows, k % across * columns
        canvas[row : row + rows, column : column + columns] = volume.array[:, :, k].T.astype(np.int32) + 4096
    dataset.Rows, dataset.Columns, dataset.PixelData = *canvas.shape, canvas.tobytes()
    return dataset


def siemens(volume: Volume = VOLUME, *, reverse: bool = False) -> Dataset:
    across = 3
    dataset = tiled(volume, across, across)
    columns, rows, slices = volume.shape
    to_lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    # the position of a slice as large as the mosaic, about the same centre
    corner = (to_lps @ volume.affine @ (-(columns * (across - 1)) / 2, -(rows * (across - 1)) / 2, 0, 1))[:3]
    dataset.ImagePositionPatient = [f"{value:.9f}" for value in corner]
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    dataset.SpacingBetweenSlices = volume.spacing_mm[2]
    normal = (to_lps @ volume.affine)[:3, 2] / volume.spacing_mm[2]
    tags = {"NumberOfImagesInMosaic": [str(slices)], "SliceNormalVector": [f"{value:.8f}" for value in normal]}
    lines = []
    for number, k in enumerate(reversed(range(slices)) if reverse else range(slices)):
        centre = (to_lps @ volume.affine @ (columns / 2, rows / 2, k, 1))[:3]
        for name, value in zip(("dSag", "dCor", "dTra"), centre, strict=True):
            lines.append(f"sSliceArray.asSlice[{number}].sPosition.{name}\t = \t{value:.9f}")
    block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x10, "OB", csa_header(tags))
    block.add_new(0x20, "OB", csa_header({"MrPhoenixProtocol": ["\n".join(lines)]}))
    return dataset


def uih(volume: Volume = VOLUME) -> Dataset:
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


@pytest.mark.parametrize("dataset", [siemens(), siemens(reverse=True), uih()], ids=["siemens", "reversed", "uih"])
def test_tiles_become_slices_in_their_places(dataset, tmp_path):
    made.save([dataset], tmp_path)
    found = read_volume(tmp_path)
    np.testing.assert_array_equal(found.array, VOLUME.array)
    np.testing.assert_allclose(found.affine, AFFINE, atol=1e-6)
    assert len(found.source.headers) == 7


def test_several_mosaics_are_several_volumes(tmp_path):
    second = VOLUME.replace(array=(VOLUME.array + 100).astype(np.int16))
    datasets = [siemens(), siemens(second)]
    for number, dataset in enumerate(datasets):
        dataset.AcquisitionNumber = dataset.InstanceNumber = number + 1
        dataset.SOPInstanceUID = f"1.2.3.{number}"
    made.save(datasets, tmp_path)
    np.testing.assert_array_equal(read_volume(tmp_path, volume=1).array, second.array)


def refusal(dataset: Dataset, folder) -> str:
    made.save([dataset], folder)
    with pytest.raises(ReadError) as caught:
        read_volume(folder)
    return str(caught.value)


def test_a_mosaic_that_contradicts_its_protocol(tmp_path):
    dataset = siemens()
    dataset.ImagePositionPatient[0] += 1.0
    assert "are not at the positions of its protocol" in refusal(dataset, tmp_path)


def test_a_mosaic_with_another_normal(tmp_path):
    dataset = siemens()
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    assert "SliceNormalVector is not normal" in refusal(dataset, tmp_path)


@pytest.mark.parametrize("element", [0x00291010, 0x00291020])
@pytest.mark.parametrize("change", [lambda data: data[:40], lambda data: b"garbage", lambda data: data[:-30]])
def test_a_private_header_that_does_not_parse(element, change, tmp_path):
    dataset = siemens()
    dataset[element].value = change(dataset[element].value)
    assert "convert the series first" in refusal(dataset, tmp_path)


def test_tiles_that_do_not_fit(tmp_path):
    dataset = siemens()
    dataset.Rows, dataset.Columns = 35, 36
    dataset.PixelData = dataset.PixelData[:2520]
    assert "does not divide into 3 x 3" in refusal(dataset, tmp_path)


def test_uih_tiles_must_be_the_acquired_matrix(tmp_path):
    dataset = uih()
    dataset[0x00651004].value = "24*20"
    assert "not the acquired matrix" in refusal(dataset, tmp_path / "matrix")
    dataset = uih()
    dataset[0x00651050].value = "8"
    assert "8 tiles with places for 7" in refusal(dataset, tmp_path / "count")
    dataset = uih()
    del dataset[0x00651051].value[3].ImagePositionPatient
    assert "a tile that has no position" in refusal(dataset, tmp_path / "place")
