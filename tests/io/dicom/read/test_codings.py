"""Compressed pixels: what is decoded, compared, and refused without a decoder."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, RLELossless
from support import dicom_phantoms as made
from support.dicom_file_cases import recoded

from medcyclegan.errors import AmbiguousError, MissingExtraError
from medcyclegan.io import read_volume


@pytest.mark.parametrize("changed", [False, True])
def test_an_image_in_two_codings_is_one_if_its_pixels_are_the_same(changed, tmp_path):
    volume = made.placed_volume()
    again = made.slices_of(volume.replace(array=(volume.array + changed).astype(np.int16)))
    for dataset in again:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.compress(RLELossless, generate_instance_uid=False)
    made.save(made.slices_of(volume), tmp_path / "in")
    made.save(again, tmp_path / "in", name=lambda number: f"RLE{number}", syntax=RLELossless)
    if changed:
        with pytest.raises(AmbiguousError, match=r"several different images at one position"):
            read_volume(tmp_path / "in")
        return
    found = read_volume(tmp_path / "in")
    np.testing.assert_array_equal(found.array, volume.array)
    assert "images that are copies of another file of the series are left out: 10" in "".join(found.notes)


def test_a_missing_decoder_names_the_extra(tmp_path, monkeypatch):
    from medcyclegan.io.dicom.read import pixels as dicom_pixels

    class Decoder:
        is_available = False

    slices = made.slices_of(made.placed_volume())
    for dataset in slices:
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        dataset.compress(pydicom.uid.RLELossless)
    made.save(slices, tmp_path / "in", syntax=pydicom.uid.RLELossless)
    monkeypatch.setattr(dicom_pixels, "get_decoder", lambda uid: Decoder())
    with pytest.raises(MissingExtraError, match=r"RLE Lossless needs a decoder.*pip install 'medcyclegan\[jpeg\]'"):
        read_volume(tmp_path / "in")


@pytest.mark.parametrize("kind", ["JPEGBaselineProcess1", "JPEG2000"])
def test_lossy_syntaxes_are_decoded_as_pydicom_does(kind, tmp_path):
    slices = made.slices_of(made.placed_volume((16, 16, 3)))
    for dataset in slices:
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
        dataset.PixelData = bytes(range(256))
        dataset["PixelData"].VR = "OB"
        dataset.RescaleIntercept = 0
    made.save(slices, tmp_path / "in")
    recoded(tmp_path / "in", kind)
    found = read_volume(tmp_path / "in")
    for k, path in enumerate(sorted((tmp_path / "in").iterdir())):
        np.testing.assert_array_equal(found.array[:, :, k], pydicom.dcmread(path).pixel_array.T)
    assert np.abs(found.array[:, :, 0].T.ravel() - np.arange(256)).max() < 40
