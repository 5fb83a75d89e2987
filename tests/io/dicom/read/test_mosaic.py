"""Tiled images of Siemens and UIH are split if both descriptions in the header agree, and refused otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from support import dicom_phantoms as made
from support.dicom_mosaics import AFFINE, VOLUME, siemens, uih

from medcyclegan.errors import ReadError
from medcyclegan.io import read_volume


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
